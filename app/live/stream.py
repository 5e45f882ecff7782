"""Events as a browser takes them: a stream of names of topics, with a sign of life every few seconds."""

import asyncio
import random
import time

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.live.hub import Hub, Reader

ALIVE_SECONDS = 15.0
"""Between two signs of life; static/js/live.js counts on one within SILENCE_MS."""
LIFE_SECONDS = 15 * 60.0
"""After about so long a page asks anew, and is looked at as any other request."""
WRITE_SECONDS = 30.0
"""How long a page may take nothing before it counts as gone."""
HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}


def follow(request: Request, topics: list[str]) -> Response:
    """The events of these topics, for the person asking, whose right to them the route has checked.

    Without anybody who listens there are no events, and pages go on asking by the clock. Raises TooManyRequests.
    """
    hub: Hub = request.app.state.hub
    if not hub.is_open:
        return Response(status_code=204)
    person_id: int = request.state.user.id
    hub.require_room(person_id=person_id)
    return EventStream(hub, Reader(person_id=person_id, topics=topics))


class EventStream(Response):
    """An answer that goes on until the page goes, is sent away, or has been here long enough."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, reader: Reader, *, life_seconds: float = LIFE_SECONDS) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._hub = hub
        self._reader = reader
        self._ends_at = time.monotonic() + life_seconds * random.uniform(0.8, 1.2)  # noqa: S311

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the page what changes."""
        with self._hub.reading(self._reader):
            parts = [asyncio.create_task(_gone(receive)), asyncio.create_task(self._tell(send))]
            try:
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while not self._reader.has_ended and time.monotonic() < self._ends_at:
            news = await self._reader.news(within_seconds=ALIVE_SECONDS)
            said = news or (["alive"] if self._hub.is_listening else [])
            if said:
                body = "".join(f"event: {name}\ndata:\n\n" for name in said).encode()
                async with asyncio.timeout(WRITE_SECONDS):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
