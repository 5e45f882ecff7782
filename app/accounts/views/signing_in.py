"""Signing in and out."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE, anyone, clear_session_cookie, set_session_cookie
from app.accounts.models import User
from app.accounts.returning import same_site_path
from app.accounts.schemas import SignInForm
from app.accounts.service.admins import has_active_admin
from app.accounts.service.people import find_by_password
from app.accounts.service.sign_ins import end_sign_in, start_sign_in
from app.accounts.service.throttling import forget_failures, record_failure, require_patience
from app.clock import Now
from app.database import DbSession
from app.errors import TooManyRequests
from app.forms import Submission, submitted
from app.settings import Settings
from app.templating import render
from app.wording import gettext as _
from app.wording import mark as N_

router = APIRouter(dependencies=[Depends(anyone)])

NO_MATCH = N_("This email and password do not belong together, or the account is not active.")
"""The same for an unknown email, a wrong password and a deactivated account: strangers learn nothing."""


@router.get("/sign-in", name="accounts:sign_in")
def show_sign_in(request: Request, session: DbSession, next: str = "", said: str = "") -> Response:
    """The sign-in form; whoever is signed in already goes on at once."""
    if request.state.user is not None:
        return RedirectResponse(_onward(request, next), status_code=303)
    form: Submission[SignInForm] = Submission(typed={"next": same_site_path(next) or ""})
    return _sign_in_page(request, session, form, said=said)


@router.post("/sign-in", name="accounts:start_sign_in")
def sign_in(
    request: Request, session: DbSession, now: Now, form: Annotated[Submission[SignInForm], submitted(SignInForm)]
) -> Response:
    """Sign in by email and password; failures are counted, and too many have to wait."""
    if form.value is None:
        return _sign_in_page(request, session, form, status=422)
    email, address = form.value.email, client_address(request)
    try:
        require_patience(session, email=email, address=address, now=now)
    except TooManyRequests as refusal:
        return _sign_in_page(request, session, form.refused(form=refusal.message), status=refusal.status)
    user = find_by_password(session, email=email, password=form.value.password)
    if user is None:
        record_failure(session, email=email, address=address, now=now)
        return _sign_in_page(request, session, form.refused(form=_(NO_MATCH)), status=422)
    forget_failures(session, email=email)
    return signed_in_as(request, session, user, now=now, onward=_onward(request, form.value.next))


@router.post("/sign-out", name="accounts:sign_out")
def sign_out(request: Request, session: DbSession) -> Response:
    """Forget this browser. Harmless for whoever is not signed in."""
    if token := request.cookies.get(SESSION_COOKIE):
        end_sign_in(session, token=token)
    path = request.app.url_path_for("accounts:sign_in")
    response = RedirectResponse(f"{path}?said=signed-out", status_code=303)
    clear_session_cookie(response)
    return response


def signed_in_as(request: Request, session: Session, user: User, *, now: datetime, onward: str) -> Response:
    """Send a browser on as this person, under a fresh token; whoever was signed in there no longer is."""
    settings: Settings = request.app.state.settings
    if token := request.cookies.get(SESSION_COOKIE):
        end_sign_in(session, token=token)
    fresh = start_sign_in(
        session,
        user=user,
        user_agent=request.headers.get("user-agent", ""),
        lasts=timedelta(days=settings.session_days),
        now=now,
    )
    response = RedirectResponse(onward, status_code=303)
    set_session_cookie(request, response, fresh)
    return response


def client_address(request: Request) -> str:
    """The network address that asks; behind a proxy, the one that uvicorn was told to trust."""
    return request.client.host if request.client is not None else "unknown"


def _onward(request: Request, next: str) -> str:
    return same_site_path(next) or str(request.app.url_path_for("home"))


def _sign_in_page(
    request: Request, session: Session, form: Submission[SignInForm], *, status: int = 200, said: str = ""
) -> Response:
    return render(
        request, "accounts/sign_in.html", status=status, form=form, said=said, has_admin=has_active_admin(session)
    )
