"""Figures are for whoever holds the operator's token: Prometheus signs in nowhere."""

import hmac

from fastapi import Request

from app.accounts.access import Needs, declares
from app.errors import NotFound
from app.settings import Settings
from app.wording import gettext as _


@declares(Needs.TOKEN)
async def metrics_reader(request: Request) -> None:
    """Whoever sends the token; raises NotFound for anybody else, and for all where no token is set."""
    settings: Settings = request.app.state.settings
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    token = settings.metrics_token
    if token is None or not hmac.compare_digest(given.encode(), token.get_secret_value().encode()):
        raise NotFound(_("There is nothing at this address. It may have moved, or the link may be incomplete."))
