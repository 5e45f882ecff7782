"""Requests over HTTP, to the web app or the model server: each has an id, and leaves one line in the log.

A pure ASGI middleware, so that streamed answers pass through untouched. The line names the route's pattern, never the
address itself: addresses can hold what nobody else should have, such as the link of an invitation.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trainer.contract.logs import request_id

HEADER = "X-Request-ID"
WELL_FORMED = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{7,63}")
"""An id that somebody before us gave; anything else is replaced, so that nobody writes into our logs."""
QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/static"})
"""Routes that are asked all the time; their lines are for debugging."""
FAULT = 500

log = logging.getLogger("palate.requests")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class RequestLog:
    """Gives every request its id, sends it back in a header, and logs how the request went."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._patterns: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its id."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = accepted_id(scope)
        scope.setdefault("state", {})["request_id"] = given
        request_id.set(given)  # a server runs each request in a context of its own
        begun, status = time.perf_counter(), FAULT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER.lower().encode(), given.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            milliseconds = 1000 * (time.perf_counter() - begun)
            _write(scope, route=self._pattern(scope), status=status, milliseconds=milliseconds)

    def _pattern(self, scope: Scope) -> str | None:
        """The route that took the request, with its parameters in braces; None where there was none.

        A route knows its path within its own router only; the app knows the whole, and each is asked once.
        """
        if scope["path"].startswith("/static/"):
            return "/static"
        route = scope.get("route")
        if route is None:
            return None
        if route.name not in self._patterns:
            placeholders = {name: f"{{{name}}}" for name in scope["path_params"]}
            self._patterns[route.name] = str(scope["app"].url_path_for(route.name, **placeholders))
        return self._patterns[route.name]


def caused_by() -> dict[str, str]:
    """The header that tells another process on whose behalf it is asked."""
    given = request_id.get()
    return {} if given is None else {HEADER: given}


def accepted_id(scope: Scope) -> str:
    """The id that came with the request, if it is one, or a new one."""
    wanted = HEADER.lower().encode()
    for name, value in scope["headers"]:
        if name == wanted and WELL_FORMED.fullmatch(value):
            return str(value, "ascii")
    return secrets.token_hex(8)


def _write(scope: Scope, *, route: str | None, status: int, milliseconds: float) -> None:
    level = logging.DEBUG if route in QUIET and status < FAULT else logging.INFO
    if log.isEnabledFor(level):
        person = scope["state"].get("user")
        fields = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(milliseconds, 1),
            "person_id": getattr(person, "id", None),
        }
        log.log(level, "request", extra={"fields": fields})
