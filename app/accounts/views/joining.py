"""One-time links: opened by GET without any effect (mail programs fetch them unasked), consumed by POST."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson, anyone
from app.accounts.credentials import password_problem
from app.accounts.models import Link, LinkPurpose, User
from app.accounts.schemas import JoinForm, NewPasswordForm
from app.accounts.service.joining import accept_invitation, become_first_admin, reset_password, take_up_invitation
from app.accounts.service.links import get_usable_link
from app.accounts.service.people import EMAIL_TAKEN, find_user_by_email, get_user
from app.accounts.views.signing_in import signed_in_as
from app.clock import Now
from app.database import DbSession
from app.errors import Conflict
from app.forms import Submission, submitted
from app.templating import render
from app.wording import gettext as _

router = APIRouter(dependencies=[Depends(anyone)])
as_oneself = APIRouter()


@router.get("/links/{token}", name="accounts:link")
def show_link(token: str, request: Request, session: DbSession, now: Now) -> Response:
    """What a link is for, with the form that uses it."""
    link = get_usable_link(session, token=token, now=now)
    blank: Submission[JoinForm] = Submission(typed={"email": link.email or ""})
    return _link_page(request, session, link, blank)


@router.post("/links/{token}", name="accounts:consume_link")
def consume_link(
    token: str,
    request: Request,
    *,
    session: DbSession,
    now: Now,
    joining: Annotated[Submission[JoinForm], submitted(JoinForm)],
    resetting: Annotated[Submission[NewPasswordForm], submitted(NewPasswordForm)],
) -> Response:
    """Use a link, once: the person is then signed in."""
    link = get_usable_link(session, token=token, now=now, lock=True)
    form = _checked_reset(session, link, resetting) if _is_reset(link) else _checked_join(session, joining)
    on_joined = request.app.state.on_joined
    if isinstance(form.value, NewPasswordForm):
        user = reset_password(session, link=link, password=form.value.password, now=now)
    elif isinstance(form.value, JoinForm) and link.purpose is LinkPurpose.FIRST_ADMIN:
        user = become_first_admin(session, link=link, **form.value.model_dump(), now=now, on_joined=on_joined)
    elif isinstance(form.value, JoinForm):
        user = accept_invitation(session, link=link, **form.value.model_dump(), now=now, on_joined=on_joined)
    else:
        return _link_page(request, session, link, form, status=422)
    return signed_in_as(request, session, user, now=now, onward=str(request.app.url_path_for("home")))


@as_oneself.post("/links/{token}/acceptance", name="accounts:take_up_link")
def take_up(token: str, request: Request, session: DbSession, person: CurrentPerson, now: Now) -> Response:
    """Use an invitation, once, as whoever is signed in."""
    link = get_usable_link(session, token=token, now=now, lock=True)
    if link.purpose is not LinkPurpose.INVITATION:
        raise Conflict(_("This link is not an invitation. Open it in a browser in which nobody is signed in."))
    take_up_invitation(session, link=link, user_id=person.id, now=now, on_joined=request.app.state.on_joined)
    return RedirectResponse(str(request.app.url_path_for("home")), status_code=303)


def _is_reset(link: Link) -> bool:
    return link.purpose is LinkPurpose.PASSWORD_RESET


def _checked_join(session: Session, form: Submission[JoinForm]) -> Submission[JoinForm]:
    if form.value is not None and find_user_by_email(session, form.value.email) is not None:
        return form.refused(email=_(EMAIL_TAKEN))
    return form


def _checked_reset(session: Session, link: Link, form: Submission[NewPasswordForm]) -> Submission[NewPasswordForm]:
    problem = form.value and password_problem(form.value.password, email=_holder(session, link).email)
    return form.refused(password=problem) if problem else form


def _holder(session: Session, link: Link) -> User:
    assert link.user_id is not None, "a check constraint of links"
    return get_user(session, link.user_id)


def _link_page(
    request: Request,
    session: Session,
    link: Link,
    form: Submission[JoinForm] | Submission[NewPasswordForm],
    *,
    status: int = 200,
) -> Response:
    """The page of a link, which tells nobody its own address: the address is the key."""
    holder = _holder(session, link) if _is_reset(link) else None
    token = request.path_params["token"]
    page = render(request, "accounts/link.html", status=status, link=link, token=token, holder=holder, form=form)
    page.headers["Referrer-Policy"] = "no-referrer"
    page.headers["Cache-Control"] = "no-store"
    return page
