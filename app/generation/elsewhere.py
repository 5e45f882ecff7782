"""Completions drawn from another server: several by one request where it gives them, else one by one.

Servers differ. One refuses `n`, another ignores it, a third wants `max_completion_tokens`. What a server turned out to
want is remembered by the process; what it does not tell (token ids, seeds) stays unknown.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from app.deployments.endpoint_answers import EndpointRefused, RequestRefused
from app.deployments.endpoint_client import ask
from app.deployments.model_server import ModelServerDown, ModelServerRefused
from app.deployments.models import Endpoint
from app.generation.completions_client import Drawn, PromptRefused, Sampling
from app.settings import Settings
from app.wording import gettext as _

LONGEST_TEXT = 1_000_000
"""Characters of one completion; 4,096 tokens have some twenty thousand."""

HARMLESS = [{"role": "user", "content": "Say hello."}]


@dataclass
class _Manners:
    """What a server turned out to want."""

    by_n: bool = True
    limit_name: str = "max_tokens"


_manners: dict[tuple[int, str], _Manners] = {}


def draw_elsewhere(
    settings: Settings, endpoint: Endpoint, *, messages: list[dict[str, Any]], count: int, sampling: Sampling
) -> list[Drawn]:
    """`count` completions of one prompt by the model of an endpoint.

    Raises ModelServerDown, ModelServerRefused, or PromptRefused with the server's own words.
    """
    server = _Server(settings, endpoint, sampling)
    drawn: list[Drawn] = []
    if endpoint.gives_n and count > 1 and server.manners.by_n:
        try:
            drawn = server.write(messages, count)
        except RequestRefused:
            drawn = server.write_one(messages)  # the prompt was at fault where this is refused as well
        server.manners.by_n = len(drawn) > 1
    if not drawn:
        drawn = server.write_one(messages)
    with ThreadPoolExecutor(max_workers=endpoint.concurrency) as pool:
        rest = [pool.submit(server.write_one, messages) for _missing in range(count - len(drawn))]
        for each in rest:
            drawn += each.result()
    return drawn[:count]


class _Server:
    """One endpoint, asked with the same sampling throughout."""

    def __init__(self, settings: Settings, endpoint: Endpoint, sampling: Sampling) -> None:
        self.settings, self.endpoint, self.sampling = settings, endpoint, sampling
        self.manners = _manners.setdefault((endpoint.version_id, endpoint.base_url), _Manners())

    def write_one(self, messages: list[dict[str, Any]]) -> list[Drawn]:
        """A single completion. A refusal is the prompt's fault if the same request with a harmless one is taken."""
        try:
            return self.write(messages, 1)[:1]
        except RequestRefused as error:
            try:
                self.write(HARMLESS, 1)
            except (ModelServerDown, ModelServerRefused):
                raise error from None
            raise PromptRefused(error.message) from error

    def write(self, messages: list[dict[str, Any]], count: int) -> list[Drawn]:
        """Whatever one request brings, at least one completion."""
        begun = time.monotonic()
        try:
            answer = self._ask(messages, count)
        except RequestRefused as error:
            if self.manners.limit_name != "max_tokens" or error.parameter != "max_tokens":
                raise
            if error.code != "unsupported_parameter":
                raise
            self.manners.limit_name = "max_completion_tokens"
            answer = self._ask(messages, count)
        return read_completions(answer, latency_ms=round(1000 * (time.monotonic() - begun)))

    def _ask(self, messages: list[dict[str, Any]], count: int) -> dict[str, Any]:
        body = {
            "model": self.endpoint.model,
            "messages": messages,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            self.manners.limit_name: self.sampling.max_tokens,
            **({"n": count} if count > 1 else {}),
        }
        return ask(self.settings, self.endpoint, body)


def read_completions(answer: dict[str, Any], *, latency_ms: int) -> list[Drawn]:
    """The completions in an answer, as far as they can be believed. Raises EndpointRefused where there are none."""
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise EndpointRefused(_("It answered, but with no completion."))
    usage = answer.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) and len(choices) == 1 else None
    return [_drawn(choice, completion_tokens=_count(tokens), latency_ms=latency_ms) for choice in choices]


def _drawn(choice: Any, *, completion_tokens: int | None, latency_ms: int) -> Drawn:
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if content is None and isinstance(message, dict):
        content = ""  # it said nothing, or only thought
    if not isinstance(content, str) or len(content) > LONGEST_TEXT:
        raise EndpointRefused(_("It answered with something that is no text, or far too much of it."))
    reason = choice.get("finish_reason")
    return Drawn(
        text=_storable(content),
        finish_reason=_storable(reason)[:64] if isinstance(reason, str) else None,
        seed=None,
        token_ids=None,
        completion_tokens=completion_tokens,
        latency_ms=latency_ms,
        chat_template_sha256=None,
        tokenizer_sha256=None,
    )


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL."""
    return text.replace("\x00", "�")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
