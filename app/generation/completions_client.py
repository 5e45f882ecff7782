"""Asking a model for completions over the OpenAI API, and keeping all that it says of how they came about."""

from dataclasses import dataclass
from typing import Any

import httpx

from app.deployments.model_server import ModelServerDown
from app.errors import Conflict, NotFound
from app.settings import Settings
from app.wording import gettext as _
from trainer.contract.requests import caused_by

WRITING_SECONDS = 600.0
"""How long one request may take: a large model on a slow machine writes for minutes."""


class PromptRefused(Conflict):
    """The model cannot take this prompt as it is, too long perhaps; asking again would not help."""


class VersionForgotten(NotFound):
    """The model server does not hold this version (any more)."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn; the seed is drawn by the server where none is given."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None = None


@dataclass(frozen=True)
class Drawn:
    """One completion as the server returned it. What other servers than ours do not tell is None."""

    text: str
    finish_reason: str | None
    seed: int | None
    token_ids: list[int] | None
    completion_tokens: int | None
    latency_ms: int | None
    chat_template_sha256: str | None
    tokenizer_sha256: str | None


def draw_completions(
    settings: Settings, *, version_name: str, messages: list[dict[str, Any]], count: int, sampling: Sampling
) -> list[Drawn]:
    """`count` completions of one prompt by one version, in one request.

    Raises ModelServerDown, VersionForgotten, or PromptRefused with the server's own words.
    """
    body = {
        "model": version_name,
        "messages": messages,
        "n": count,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    } | ({} if sampling.seed is None else {"seed": sampling.seed})
    assert settings.model_server_token is not None
    headers = {"Authorization": f"Bearer {settings.model_server_token.get_secret_value()}", **caused_by()}
    try:
        # A proxy set for the machine must not see the token.
        with httpx.Client(base_url=settings.model_server_url, headers=headers, trust_env=False) as client:
            reply = client.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(WRITING_SECONDS, connect=5.0))
    except httpx.HTTPError as error:
        raise ModelServerDown(
            _(
                "The model server at %(model_server_url)s does not answer. Is it running?",
                model_server_url=settings.model_server_url,
            )
        ) from error
    _refuse_errors(reply)
    answer = reply.json()
    if "palate" in answer and answer["model"] != version_name:
        raise VersionForgotten(
            _("%(writer)s wrote in the place of %(version_name)s.", writer=answer["model"], version_name=version_name)
        )
    return [_drawn(choice, answer) for choice in answer["choices"]]


def _refuse_errors(reply: httpx.Response) -> None:
    if reply.is_success:
        return
    try:
        message = str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = _("status %(status_code)s", status_code=reply.status_code)
    if reply.status_code == httpx.codes.NOT_FOUND:
        raise VersionForgotten(message)
    if reply.status_code == httpx.codes.BAD_REQUEST:
        raise PromptRefused(message)
    raise ModelServerDown(_("The model server could not write: %(message)s", message=message))


def _drawn(choice: dict[str, Any], answer: dict[str, Any]) -> Drawn:
    ours: dict[str, Any] = choice.get("palate") or {}
    shared: dict[str, Any] = answer.get("palate") or {}
    token_ids = ours.get("token_ids")
    latency_ms = ours.get("latency_ms", shared.get("latency_ms"))
    return Drawn(
        text=str(choice["message"]["content"] or "").replace("\x00", "\ufffd"),  # PostgreSQL's text holds no NUL
        finish_reason=choice.get("finish_reason"),
        seed=ours.get("seed"),
        token_ids=token_ids,
        completion_tokens=len(token_ids) if token_ids is not None else None,
        latency_ms=None if latency_ms is None else round(latency_ms),
        chat_template_sha256=shared.get("chat_template_sha256"),
        tokenizer_sha256=shared.get("tokenizer_sha256"),
    )
