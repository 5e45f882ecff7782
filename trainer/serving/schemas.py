"""Requests of the OpenAI API as we take them.

Parameters that would change the completions and that we do not have are refused rather than ignored;
their neutral values are let through, as clients like to send them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainer.contract.base import Message
from trainer.serving.errors import InvalidRequestError

MAX_STOP_STRINGS = 16

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
}
"""Parameters that we do not have, with the values (besides null) that ask for nothing."""


class TextPart(BaseModel):
    """A piece of a message's content."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of the prompt; `developer` is the OpenAI API's newer word for `system`."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def as_message(self) -> Message:
        """The message as the chat template takes it; the name, which templates do not know, is dropped."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role="system" if self.role == "developer" else self.role, content=content)


class StreamOptions(BaseModel):
    """What a streamed reply holds besides the completions. `include_obfuscation` (padding) is accepted and ignored."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool | None = None
    include_obfuscation: Any = None


class ChatCompletionRequest(BaseModel):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    n: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    # What asks for something that we do not have; see _NEUTRAL.
    logprobs: Any = None
    top_logprobs: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    logit_bias: Any = None
    response_format: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None

    # What does not change the completions.
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    parallel_tool_calls: Any = None

    def refuse_what_we_lack(self) -> None:
        """Raise InvalidRequestError for a parameter that we would have to ignore."""
        for name, neutral in _NEUTRAL.items():
            value = getattr(self, name)
            if value is None or value in neutral:
                continue
            raise InvalidRequestError(
                f"'{name}' is not supported by this server. Leave it out.",
                parameter=name,
                code="unsupported_parameter",
            )
        if self.stream_options and not self.stream:
            raise InvalidRequestError("stream_options go with stream: true only.", parameter="stream_options")

    def completion_limit(self) -> int | None:
        """The longest completion asked for, by its newer or its older name. Raises InvalidRequestError."""
        limits = {limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None}
        if len(limits) > 1:
            raise InvalidRequestError("max_tokens and max_completion_tokens differ; give one.", parameter="max_tokens")
        return limits.pop() if limits else None

    def wants_usage(self) -> bool:
        """Whether a stream ends with what it came to."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, however they were given. Raises InvalidRequestError for an empty one or too many."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        if not all(stops) or len(stops) > MAX_STOP_STRINGS:
            raise InvalidRequestError(
                f"stop may hold up to {MAX_STOP_STRINGS} strings, none of them empty.", parameter="stop"
            )
        return stops
