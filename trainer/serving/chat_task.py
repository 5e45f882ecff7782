"""One chat completion on the computing thread: prompt to tokens, checks, decoding, and the reply's parts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jinja2 import TemplateError

from trainer.chat import prompt_token_ids
from trainer.contract.base import Message
from trainer.serving.decoding import Choice, Decoding, Sampling
from trainer.serving.errors import ContextLengthError, InvalidRequestError
from trainer.serving.versions import Lease, ModelVersion

TOKENS_PER_TURN = 8
"""How far a request is decoded before the next one has its turn."""


@dataclass(frozen=True)
class Completed:
    """What came of a request."""

    prompt_tokens: int
    choices: list[Choice]
    queued_seconds: float
    """From the request's arrival to its first turn."""
    seconds: float
    """From its first turn to its last token, the turns of other requests included."""


class ChatTask:
    """A request for chat completions, as a task of the scheduler; owns the lease on its version.

    `limit` is the longest completion asked for; without one a completion ends at the latest where the context
    does, or at `default_limit` tokens.
    """

    def __init__(
        self, lease: Lease, messages: Sequence[Message], sampling: Sampling, *, limit: int | None, default_limit: int
    ) -> None:
        self.choices = sampling.choices
        self.threads = lease.version.threads
        self._lease: Lease | None = lease
        self._messages = messages
        self._sampling = sampling
        self._limit = limit
        self._default_limit = default_limit
        self._decoding: Decoding | None = None
        self._prompt_tokens = 0
        self._submitted = self._started = time.monotonic()

    def advance(self) -> bool:
        """Compute the prompt, or the next few tokens. Raises a ServingError where the prompt cannot be read."""
        if self._decoding is None:
            assert self._lease is not None
            self._started = time.monotonic()
            self._decoding = self._begin(self._lease.version)
            return False
        return self._decoding.advance(TOKENS_PER_TURN)

    def _begin(self, version: ModelVersion) -> Decoding:
        prompt_ids = self._prompt_ids(version)
        self._prompt_tokens = len(prompt_ids)
        room = version.context_tokens - len(prompt_ids)
        if room < (self._limit or 1):
            raise _too_long(version, len(prompt_ids), self._limit)
        limit = self._limit or min(room, self._default_limit)
        return Decoding(
            version.model,
            version.tokenizer,
            prompt_ids=prompt_ids,
            end_ids=version.end_ids,
            sampling=replace(self._sampling, max_tokens=limit),
        )

    def _prompt_ids(self, version: ModelVersion) -> list[int]:
        try:
            prompt_ids = prompt_token_ids(version.tokenizer, self._messages)
        except TemplateError as error:
            raise InvalidRequestError(
                f"The chat template of {version.name} does not take these messages: {error}", parameter="messages"
            ) from error
        if not prompt_ids:
            raise InvalidRequestError("The prompt holds no tokens. Write something in it.", parameter="messages")
        return prompt_ids

    def result(self) -> Completed:
        """The finished choices."""
        assert self._decoding is not None
        return Completed(
            prompt_tokens=self._prompt_tokens,
            choices=self._decoding.choices,
            queued_seconds=self._started - self._submitted,
            seconds=time.monotonic() - self._started,
        )

    def close(self) -> None:
        """Free the cache and return the lease."""
        self._decoding = None
        if self._lease is not None:
            self._lease.give_back()
            self._lease = None


def _too_long(version: ModelVersion, prompt_tokens: int, limit: int | None) -> ContextLengthError:
    wanted = f" and {limit} are asked for the completion" if limit else ""
    return ContextLengthError(
        f"{version.name} reads at most {version.context_tokens} tokens, prompt and completion together; "
        f"the prompt has {prompt_tokens}{wanted}. Shorten the prompt or ask for fewer tokens.",
        parameter="messages",
    )
