"""Who may ask: a bearer token for completions where one is set, another for the admin API always."""

from __future__ import annotations

import hmac

from fastapi import Request

from trainer.serving.errors import UnauthorizedError
from trainer.serving.model_server import TheServer


async def require_admin_token(request: Request, server: TheServer) -> None:
    """Raise UnauthorizedError unless the request carries the admin token."""
    if not _carries(request, server.settings.admin_token):
        raise UnauthorizedError("The admin API needs the admin token: Authorization: Bearer <token>.")


async def require_api_key(request: Request, server: TheServer) -> None:
    """Raise UnauthorizedError unless the request carries the key for completions, where there is one.

    The admin token opens this door too.
    """
    key = server.settings.api_key
    if key and not _carries(request, key) and not _carries(request, server.settings.admin_token):
        raise UnauthorizedError("This server needs an API key: Authorization: Bearer <key>.")


def _carries(request: Request, secret: str) -> bool:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), secret.encode())
