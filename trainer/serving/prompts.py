"""From a request's messages to the tokens that a version reads, and how long its completions may become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

from trainer.contract.base import Message
from trainer.serving.errors import ContextLengthError, InvalidRequestError
from trainer.serving.versions import ModelVersion


@dataclass(frozen=True)
class Limits:
    """What a server lets a request ask for, in tokens; None: what the version's context holds."""

    max_prompt_tokens: int | None
    max_tokens: int | None
    default_max_tokens: int
    """Longest completion of a request that names no limit."""


def prompt_token_ids(version: ModelVersion, messages: Sequence[Message], limits: Limits) -> list[int]:
    """The prompt as the version reads it. Raises InvalidRequestError, ContextLengthError."""
    try:
        token_ids = version.tokenizer.prompt_ids(messages)
    except (TemplateError, ValueError) as error:
        raise InvalidRequestError(
            f"The chat template of {version.name} does not take these messages: {error}", parameter="messages"
        ) from error
    if not token_ids:
        raise InvalidRequestError("The prompt holds no tokens. Write something in it.", parameter="messages")
    if limits.max_prompt_tokens and len(token_ids) > limits.max_prompt_tokens:
        raise ContextLengthError(
            f"This server takes prompts of at most {limits.max_prompt_tokens} tokens; this one has {len(token_ids)}. "
            "Shorten it.",
            parameter="messages",
        )
    return token_ids


def completion_tokens(version: ModelVersion, prompt_tokens: int, wanted: int | None, limits: Limits) -> int:
    """How many tokens a completion may have where `wanted` are asked for. Raises the same errors."""
    if wanted and limits.max_tokens and wanted > limits.max_tokens:
        raise InvalidRequestError(
            f"max_tokens may be at most {limits.max_tokens} on this server.", parameter="max_tokens"
        )
    room = version.context_tokens - prompt_tokens
    if room < (wanted or 1):
        asked = f" and {wanted} are asked for the completion" if wanted else ""
        raise ContextLengthError(
            f"{version.name} reads at most {version.context_tokens} tokens, prompt and completion together; "
            f"the prompt has {prompt_tokens}{asked}. Shorten the prompt or ask for fewer tokens.",
            parameter="messages",
        )
    return wanted or min(room, limits.default_max_tokens, limits.max_tokens or room)
