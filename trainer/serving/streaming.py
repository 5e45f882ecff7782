"""A reply as server-sent events, as the OpenAI API has them: each choice's text as it grows, then why it ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from trainer.serving.errors import body_of
from trainer.serving.replies import Reply


class CompletionStream(StreamingResponse):
    """Sends what has been written since it last looked, whenever `changed` is set.

    A client that reads slowly gets fewer and longer pieces. `on_end` is called however the stream ends, also when
    the client has gone.
    """

    media_type = "text/event-stream"

    def __init__(self, reply: Reply, changed: asyncio.Event, *, with_usage: bool, on_end: Callable[[], None]) -> None:
        # A proxy in between is asked to hand on each piece at once.
        super().__init__(self._events(), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._reply = reply
        self._decoding = reply.decoding
        self._changed = changed
        self._with_usage = with_usage
        self._on_end = on_end
        self._sent = [0] * len(reply.decoding.choices)
        """Characters sent of each choice."""
        self._closed: set[int] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()

    async def _events(self) -> AsyncIterator[bytes]:
        yield b"".join(map(self._chunk, self._openings()))
        while True:
            self._changed.clear()
            ended = self._decoding.ended
            if news := b"".join(map(self._chunk, self._news())):
                yield news
            if ended:
                break
            await self._changed.wait()
        yield self._close()

    def _openings(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self._sent)):
            opening = {"role": "assistant", "content": ""}
            yield self._reply.chunk(index, opening, palate=self._reply.about_version())

    def _news(self) -> Iterator[dict[str, Any]]:
        """What has come of each choice since the last time."""
        for index, choice in enumerate(self._decoding.choices):
            if index in self._closed:
                continue
            stopped = choice.stopped_by is not None  # asked first, as the text is whole once this is set
            text = choice.text
            if len(text) > self._sent[index]:
                yield self._reply.chunk(index, {"content": text[self._sent[index] :]})
                self._sent[index] = len(text)
            if stopped:
                self._closed.add(index)
                yield self._reply.chunk(index, {}, choice=choice)

    def _close(self) -> bytes:
        if self._decoding.error is not None:
            return _event(body_of(self._decoding.error))
        usage = _event(self._reply.last_chunk()) if self._with_usage else b""
        return usage + b"data: [DONE]\n\n"

    def _chunk(self, chunk: dict[str, Any]) -> bytes:
        return _event(chunk | {"usage": None} if self._with_usage else chunk)


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
