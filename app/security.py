"""What every answer carries: a Content-Security-Policy without inline script, and the visitor's cookie.

A pure ASGI middleware, so that streamed answers pass through untouched.
"""

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import Settings

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; manifest-src 'self'"
)


class SecurityHeaders:
    """Adds the headers that keep hostile text inert and pages out of shared caches."""

    def __init__(self, app: ASGIApp, *, settings: Settings, visitor_cookie: str) -> None:
        self.app = app
        self.settings = settings
        self.visitor_cookie = visitor_cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and dress its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Referrer-Policy", "same-origin")
                headers["Cross-Origin-Opener-Policy"] = "same-origin"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                headers.setdefault("Cache-Control", "no-store")
                self._remember_visitor(scope, headers)
            await send(message)

        await self.app(scope, receive, send_dressed)

    def _remember_visitor(self, scope: Scope, headers: MutableHeaders) -> None:
        """Give a first-time visitor the cookie that their first form's CSRF token hangs on."""
        visitor = getattr(Request(scope).state, "new_visitor", None)
        if visitor is not None:
            secure = "; Secure" if self.settings.is_secure else ""
            headers.append("Set-Cookie", f"{self.visitor_cookie}={visitor}; Path=/; HttpOnly; SameSite=Lax{secure}")
