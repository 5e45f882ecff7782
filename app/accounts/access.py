"""Who is asking, what each route needs of them, and proof that a form came from our own page.

Every route states its need through one dependency marked by `declares`; a test walks all routes as every
role and as nobody. Those that only look at the request are `async`: a hop to a thread costs more than they do.
Campaigns, datasets and training add their own in their `access.py`.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, TypeVar

from fastapi import Depends, Request, Response

from app.accounts.models import Role
from app.accounts.service.sign_ins import Person, find_person
from app.clock import Now
from app.database import DbSession
from app.errors import Forbidden, SignInNeeded
from app.settings import Settings
from app.wording import gettext as _

SESSION_COOKIE = "palate_session"
VISITOR_COOKIE = "palate_visitor"
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
STRANGERS_BYTES = 64 * 1024
"""Largest form that is read from somebody who is not signed in; theirs hold a few short texts."""
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


class Needs(StrEnum):
    """What a route asks of the person; the rows of the role table."""

    NOTHING = "nothing"
    SIGNED_IN = "signed in"
    JUDGES = "enrolled to judge"
    READS = "may read the campaign's data"
    TRAINS = "may start runs on the line"
    MANAGES = "manages the campaign or line"
    CREATES = "may create campaigns"
    ADMIN = "admin"
    TOKEN = "the operator's token"  # noqa: S105


def declares(needs: Needs) -> Callable[[FunctionT], FunctionT]:
    """Mark a dependency with the need that it enforces, so that the walk over all routes can find it."""

    def mark(function: FunctionT) -> FunctionT:
        function.needs = needs  # type: ignore[attr-defined]
        return function

    return mark


def identify(request: Request, session: DbSession, now: Now) -> None:
    """Find out who is asking, for every request; pages get `user` and `csrf_token` from it."""
    settings: Settings = request.app.state.settings
    token = request.cookies.get(SESSION_COOKIE)
    request.state.user = None
    if token is not None:
        lasts = timedelta(days=settings.session_days)
        request.state.user = find_person(session, token=token, lasts=lasts, now=now)
    anchor = token if request.state.user is not None else request.cookies.get(VISITOR_COOKIE)
    if anchor is None:
        anchor = request.state.new_visitor = secrets.token_urlsafe(16)
    request.state.csrf_token = csrf_token(settings, anchor)


def csrf_token(settings: Settings, anchor: str) -> str:
    """The proof that goes with a cookie: only a page that we rendered for its holder knows it."""
    return hmac.new(settings.required_secret(), b"csrf:" + anchor.encode(), hashlib.sha256).hexdigest()


async def verify_csrf(request: Request, identified: Annotated[None, Depends(identify)]) -> None:
    """Refuse an unsafe request that does not carry the page's token in a header or form field."""
    if request.method in SAFE_METHODS:
        return
    given = request.headers.get(CSRF_HEADER)
    if given is None and "form" in request.headers.get("content-type", ""):
        _require_modest_size(request)
        given = str((await request.form()).get(CSRF_FIELD, ""))
    if hmac.compare_digest((given or "").encode(), request.state.csrf_token.encode()):
        return
    if request.state.user is None and SESSION_COOKIE in request.cookies:
        raise SignInNeeded(_("You have been signed out meanwhile. Sign in and try again."))
    raise Forbidden(_("This page was opened before you signed in or out. Reload it and try again."))


def _require_modest_size(request: Request) -> None:
    """Refuse to read a stranger's file: the token within a form is only found by reading all of it."""
    size = request.headers.get("content-length", "")
    if request.state.user is None and not (size.isdecimal() and int(size) <= STRANGERS_BYTES):
        raise SignInNeeded(_("Sign in before you send files."))


@declares(Needs.NOTHING)
async def anyone() -> None:
    """Open to everybody, signed in or not."""


@declares(Needs.SIGNED_IN)
async def signed_in(request: Request) -> Person:
    """The person asking; raises SignInNeeded where nobody is signed in."""
    person: Person | None = request.state.user
    if person is None:
        raise SignInNeeded(_("Sign in to see this page."))
    return person


CurrentPerson = Annotated[Person, Depends(signed_in)]


@declares(Needs.ADMIN)
async def admin(person: CurrentPerson) -> Person:
    """An admin; raises Forbidden for anybody else."""
    if not person.is_admin:
        raise Forbidden(_("Only admins may do this. Ask one of them."))
    return person


CurrentAdmin = Annotated[Person, Depends(admin)]


@declares(Needs.CREATES)
async def campaign_creator(person: CurrentPerson) -> Person:
    """A manager or admin; raises Forbidden for anybody else."""
    if not person.is_at_least(Role.MANAGER):
        raise Forbidden(_("Only managers and admins may create campaigns. Ask an admin to change your role."))
    return person


CampaignCreator = Annotated[Person, Depends(campaign_creator)]


def set_session_cookie(request: Request, response: Response, token: str) -> None:
    """Hand a sign-in to the browser."""
    settings: Settings = request.app.state.settings
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=settings.session_days * 86_400,
        httponly=True,
        samesite="lax",
        secure=settings.is_secure,
        path="/",
    )


def clear_session_cookie(response: Response) -> None:
    """Take the sign-in back from the browser."""
    response.delete_cookie(SESSION_COOKIE, path="/")
