"""The OpenAI API's way of streaming: lines of `data: {chunk}`, then `data: [DONE]`. Pure but for what it reads from."""

from collections.abc import AsyncIterator
from typing import Any

import orjson

from app.deployments.endpoint_answers import EndpointRefused, cut
from app.wording import gettext as _

LONGEST_LINE = 2**20
FINAL = b"[DONE]"


async def objects_in(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream up to its `[DONE]`, however its bytes were cut up on the way."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            data = line[5:].strip() if line.startswith(b"data:") else b""
            if data == FINAL:
                return
            if data:
                yield _object(data)
        if len(rest) > LONGEST_LINE:
            raise EndpointRefused(_("It answered with something that makes no sense."))


def _object(data: bytes) -> dict[str, Any]:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EndpointRefused(_("It answered with something that makes no sense.")) from error
    if not isinstance(chunk, dict):
        raise EndpointRefused(_("It answered with something that makes no sense."))
    return chunk


def _choice(chunk: dict[str, Any]) -> dict[str, Any]:
    """The first choice; the last chunk of a stream may hold none, but the usage."""
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    return choice if isinstance(choice, dict) else {}


def text_of(chunk: dict[str, Any]) -> str:
    """The text that a chunk adds, or the whole text of an answer in one piece."""
    choice = _choice(chunk)
    message = choice.get("delta", choice.get("message"))
    content = message.get("content") if isinstance(message, dict) else None
    return content if isinstance(content, str) else ""


def ended_of(chunk: dict[str, Any]) -> str | None:
    """Why the reply ended, if it did with this chunk."""
    reason = _choice(chunk).get("finish_reason")
    return reason[:64] if isinstance(reason, str) else None


def error_in(chunk: dict[str, Any]) -> str | None:
    """What went wrong in the middle of a stream, in the server's words."""
    error = chunk.get("error")
    if error is None:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return cut(str(message)) or _("Something went wrong over there.")
