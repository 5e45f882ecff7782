"""One reply, piece by piece as its model writes it, from our own model server or another; no thread waits for it.

Whoever closes the iterator, or is cancelled in it, hangs up on the server, which then stops writing.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app.deployments.endpoint_answers import EndpointRefused, RequestRefused, read_object, refuse_errors
from app.deployments.endpoint_client import key_headers
from app.deployments.model_server import LOAD_SECONDS, ModelServerDown
from app.errors import DomainError
from app.outgoing import CONNECT_SECONDS, outgoing_stream
from app.settings import Settings
from app.trying.conversation import Messages
from app.trying.sides import Side
from app.trying.streams import ended_of, error_in, objects_in, text_of
from app.wording import gettext as _
from trainer.contract.requests import caused_by

WRITING_SECONDS = 300.0
SILENCE_SECONDS = 120.0
"""Longest pause between two pieces: a long prompt is read in it, or another reply written before."""
MOST_CHARACTERS = 400_000
MOST_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Drawing:
    """How a reply is drawn; the server draws a seed where none is given."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None


@dataclass(frozen=True)
class Piece:
    """A little more text; or a `note` on what is waited for; or the end, with why (`ended`) or what went wrong."""

    text: str = ""
    note: str = ""
    ended: str | None = None
    error: str = ""


async def reply_of(settings: Settings, side: Side, *, messages: Messages, drawing: Drawing) -> AsyncIterator[Piece]:
    """The pieces of one reply. Never raises what can be said in words: the last piece says it instead."""
    try:
        async with _reached(settings, side) as client:
            async for piece in _written(client, side, messages, drawing):
                yield piece
    except DomainError as error:
        yield Piece(error=error.message)
    except httpx.TimeoutException:
        yield Piece(error=_("%(name)s did not answer in time. Try again, or ask for fewer tokens.", name=side.name))
    except (httpx.HTTPError, httpx.InvalidURL):
        where = side.endpoint.base_url if side.endpoint else settings.model_server_url
        yield Piece(error=_("The model server at %(where)s does not answer. Is it running?", where=where))


def _reached(settings: Settings, side: Side) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    return _elsewhere(settings, side) if side.endpoint is not None else _ours(settings)


@asynccontextmanager
async def _ours(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    assert settings.model_server_token is not None
    headers = {"Authorization": f"Bearer {settings.model_server_token.get_secret_value()}", **caused_by()}
    # A proxy set for the machine must not see the token; redirects are not followed.
    async with httpx.AsyncClient(
        base_url=f"{settings.model_server_url}/v1", headers=headers, trust_env=False
    ) as client:
        yield client


@asynccontextmanager
async def _elsewhere(settings: Settings, side: Side) -> AsyncIterator[httpx.AsyncClient]:
    assert side.endpoint is not None
    async with outgoing_stream(listed=settings.endpoint_origins) as client:
        client.base_url = httpx.URL(side.endpoint.base_url)
        client.headers.update(key_headers(settings, side.endpoint))
        yield client


async def _written(client: httpx.AsyncClient, side: Side, messages: Messages, drawing: Drawing) -> AsyncIterator[Piece]:
    """The pieces. A version that is not loaded is loaded first; who does not stream is asked for the whole."""
    body = _body(side, messages, drawing)
    timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    may_load, streams = side.endpoint is None, True
    while True:
        asked = {**body, "stream": True} if streams else body
        timeout = timeout if streams else httpx.Timeout(WRITING_SECONDS, connect=CONNECT_SECONDS)
        async with client.stream("POST", "/chat/completions", json=asked, timeout=timeout) as response:
            if response.is_success:
                async for piece in _pieces(response):
                    yield piece
                return
            content = await _bounded(response)
        if may_load and response.status_code == httpx.codes.NOT_FOUND:
            may_load = False
            yield Piece(note=_("%(name)s is being loaded …", name=side.name))
            await _load(client, side)
        elif streams and _refuses_to_stream(response, content):
            streams = False
        else:
            refuse_errors(response, content)
            raise ModelServerDown(_("It answered with status %(status)s.", status=response.status_code))


def _body(side: Side, messages: Messages, drawing: Drawing) -> dict[str, Any]:
    body = {
        "model": side.endpoint.model if side.endpoint else side.name,
        "messages": messages,
        "temperature": drawing.temperature,
        "top_p": drawing.top_p,
        "max_tokens": drawing.max_tokens,
    }
    return body if drawing.seed is None else {**body, "seed": drawing.seed}


def _refuses_to_stream(response: httpx.Response, content: bytes) -> bool:
    try:
        refuse_errors(response, content)
    except RequestRefused as error:
        return error.parameter == "stream" or "stream" in error.message.lower()
    except DomainError:
        pass
    return False


async def _load(client: httpx.AsyncClient, side: Side) -> None:
    """Have our own model server load a version. What it refuses, for want of memory say, it says in words."""
    url = str(client.base_url).rstrip("/").removesuffix("/v1") + "/admin/versions"
    timeout = httpx.Timeout(LOAD_SECONDS, connect=CONNECT_SECONDS)
    response = await client.post(url, json=side.order.model_dump(), timeout=timeout)
    refuse_errors(response, response.content)


async def _bounded(response: httpx.Response) -> bytes:
    content = bytearray()
    async for piece in response.aiter_raw():
        content += piece
        if len(content) > MOST_BYTES:
            raise EndpointRefused(_("Its answer is too large to be shown."))
    return bytes(content)


async def _pieces(response: httpx.Response) -> AsyncIterator[Piece]:
    """The pieces of an answer that streams, or the one piece of an answer that does not."""
    if not response.headers.get("content-type", "").startswith("text/event-stream"):
        answer = read_object(await _bounded(response))
        yield Piece(text=text_of(answer))
        yield Piece(ended=ended_of(answer) or "stop")
        return
    ended, characters, until = None, 0, time.monotonic() + WRITING_SECONDS
    async for chunk in objects_in(response.aiter_raw()):
        if (said := error_in(chunk)) is not None:
            raise EndpointRefused(said)
        ended = ended_of(chunk) or ended
        if text := text_of(chunk):
            characters += len(text)
            yield Piece(text=text)
        if characters > MOST_CHARACTERS or time.monotonic() > until:
            raise EndpointRefused(_("It went on for too long and was stopped."))
    if ended is None:
        raise EndpointRefused(_("It broke off in the middle. Try again."))
    yield Piece(ended=ended)
