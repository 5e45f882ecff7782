"""A bound on the size of a request's body, refused in the same words and shape as everything else."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Passes on requests, and stops reading a body that is larger than `max_bytes`."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Whoever reads too large a body is raised an HTTPException of status 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        promised = Headers(scope=scope).get("content-length", "")
        received = 0

        async def receive_within_bounds() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if max(received, int(promised) if promised.isdigit() else 0) > self._max_bytes:
                raise HTTPException(413, f"A body may have at most {self._max_bytes:,} bytes. Send a shorter prompt.")
            return message

        await self._app(scope, receive_within_bounds, send)
