"""What is answered to a request for completions: one JSON object, or a chunk at a time."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from trainer.serving.decoding import Choice, Decoding

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """The parts that do not change while a request is answered."""

    decoding: Decoding
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self) -> Json:
        """All of it, once the request has ended."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text},
                "logprobs": None,
                "finish_reason": finish_reason(choice),
                "palate": about_choice(choice),
            }
            for index, choice in enumerate(self.decoding.choices)
        ]
        about = self.about_version() | self.about_time()
        return self._headed("chat.completion") | {"choices": choices, "usage": self.usage(), "palate": about}

    def chunk(self, index: int, delta: Json, *, choice: Choice | None = None, **more: Any) -> Json:
        """A piece of a choice; its last one where `choice` is given."""
        piece: Json = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        if choice is not None:
            piece |= {"finish_reason": finish_reason(choice), "palate": about_choice(choice)}
        return self._headed("chat.completion.chunk") | {"choices": [piece]} | more

    def last_chunk(self) -> Json:
        """What the request came to, without a choice."""
        return self._headed("chat.completion.chunk") | {"choices": [], "usage": self.usage()}

    def usage(self) -> Json:
        """Tokens read and written."""
        prompt_tokens = len(self.decoding.prompt_ids)
        completion_tokens = sum(len(choice.token_ids) for choice in self.decoding.choices)
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }

    def about_version(self) -> Json:
        """Who writes, and with which seed."""
        version = self.decoding.version
        return {
            "sha256": version.sha256,
            "tokenizer_sha256": version.tokenizer_sha256,
            "chat_template_sha256": version.chat_template_sha256,
            "seed": self.decoding.sampling.seed,
        }

    def about_time(self) -> Json:
        """How long the request waited, and how long it was worked on."""
        return {
            "queued_ms": _milliseconds(self.decoding.queued_seconds),
            "latency_ms": _milliseconds(self.decoding.seconds),
        }

    def _headed(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.decoding.version.name}


def finish_reason(choice: Choice) -> str:
    """Why a choice ended, in the OpenAI API's words."""
    return "length" if choice.stopped_by == "max_tokens" else "stop"


def about_choice(choice: Choice) -> Json:
    """What a completion records besides its text."""
    return {
        "seed": choice.seed,
        "token_ids": choice.token_ids,
        "stopped_by": choice.stopped_by,
        "latency_ms": _milliseconds(choice.seconds),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
