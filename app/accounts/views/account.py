"""A person's own account: name, password, and the browsers in which they are signed in."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import SESSION_COOKIE, CurrentPerson
from app.accounts.browsers import browser_name
from app.accounts.credentials import password_problem
from app.accounts.schemas import ChangePasswordForm, NameForm
from app.accounts.service.passwords import change_password
from app.accounts.service.people import get_user, rename
from app.accounts.service.sign_ins import end_all_sign_ins, list_sign_ins, token_sha256
from app.accounts.service.throttling import record_failure, require_patience
from app.accounts.views.signing_in import client_address
from app.clock import Now
from app.database import DbSession
from app.errors import Forbidden
from app.forms import Submission, submitted
from app.templating import render

router = APIRouter(prefix="/account")


@router.get("", name="accounts:settings")
def show_account(request: Request, session: DbSession, person: CurrentPerson, now: Now, said: str = "") -> Response:
    """One's name, password and browsers."""
    return _account_page(request, session, said=said)


@router.post("/name", name="accounts:rename")
def change_name(
    request: Request,
    session: DbSession,
    person: CurrentPerson,
    now: Now,
    form: Annotated[Submission[NameForm], submitted(NameForm)],
) -> Response:
    """Be called by another name."""
    if form.value is None:
        return _account_page(request, session, status=422, name_form=form)
    rename(session, user=get_user(session, person.id), name=form.value.name, by_id=person.id, now=now)
    return _done(request, "renamed")


@router.post("/password", name="accounts:change_password")
def choose_password(
    request: Request,
    session: DbSession,
    person: CurrentPerson,
    now: Now,
    form: Annotated[Submission[ChangePasswordForm], submitted(ChangePasswordForm)],
) -> Response:
    """A new password on proof of the old one, guesses at which count as failed sign-ins."""
    problem = form.value and password_problem(form.value.new_password, email=person.email)
    if form.value is None or problem:
        form = form.refused(new_password=problem) if problem else form
        return _account_page(request, session, status=422, password_form=form)
    address = client_address(request)
    require_patience(session, email=person.email, address=address, now=now)
    try:
        change_password(
            session,
            user=get_user(session, person.id),
            **form.value.model_dump(),
            kept_token=request.cookies[SESSION_COOKIE],
            now=now,
        )
    except Forbidden as refusal:
        record_failure(session, email=person.email, address=address, now=now)
        form = form.refused(old_password=refusal.message)
        return _account_page(request, session, status=422, password_form=form)
    return _done(request, "password-changed")


@router.post("/other-browsers", name="accounts:sign_out_others")
def sign_out_others(request: Request, session: DbSession, person: CurrentPerson) -> Response:
    """Forget every browser but this one."""
    end_all_sign_ins(session, user_id=person.id, except_token=request.cookies[SESSION_COOKIE])
    return _done(request, "others-signed-out")


def _done(request: Request, said: str) -> Response:
    return RedirectResponse(f"{request.app.url_path_for('accounts:settings')}?said={said}", status_code=303)


def _account_page(
    request: Request,
    session: Session,
    *,
    status: int = 200,
    said: str = "",
    name_form: Submission[NameForm] | None = None,
    password_form: Submission[ChangePasswordForm] | None = None,
) -> Response:
    person = request.state.user
    return render(
        request,
        "accounts/settings.html",
        status=status,
        said=said,
        name_form=name_form or Submission(typed={"name": person.name}),
        password_form=password_form or Submission(typed={}),
        browsers=_browsers(request, session),
    )


def _browsers(request: Request, session: Session) -> list[dict[str, Any]]:
    """Where one is signed in, this browser marked."""
    here = token_sha256(request.cookies[SESSION_COOKIE])
    now = request.app.state.clock()
    return [
        {
            "name": browser_name(sign_in.user_agent),
            "is_this_one": sign_in.token_sha256 == here,
            "last_seen_at": sign_in.last_seen_at,
        }
        for sign_in in list_sign_ins(session, user_id=request.state.user.id, now=now)
    ]
