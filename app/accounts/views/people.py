"""The people of the installation, for admins: found, given a role, let in again, shut out."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.accounts.access import CurrentAdmin, admin
from app.accounts.models import Role, User
from app.accounts.schemas import RoleForm
from app.accounts.service.links import create_password_reset
from app.accounts.service.people import (
    count_people,
    deactivate_user,
    get_user,
    list_people,
    reactivate_user,
    set_role,
)
from app.accounts.views.invitations import link_page
from app.clock import Now
from app.database import DbSession
from app.forms import Submission, submitted
from app.templating import is_htmx, render

router = APIRouter(prefix="/people", dependencies=[Depends(admin)])

PER_PAGE = 50


@router.get("", name="accounts:people")
def index(
    request: Request, session: DbSession, q: str = "", page: Annotated[int, Query(ge=1, le=100_000)] = 1
) -> Response:
    """Everybody, or those whose name or email holds every word of `q`."""
    q = q[:200]
    total = count_people(session, search=q)
    people = list_people(session, search=q, limit=PER_PAGE, offset=(page - 1) * PER_PAGE)
    template = "accounts/_people.html" if is_htmx(request) else "accounts/people.html"
    pages = max(1, -(-total // PER_PAGE))
    return render(request, template, people=people, q=q, page=page, pages=pages, total=total)


@router.get("/{user_id}", name="accounts:person")
def show(user_id: int, request: Request, session: DbSession, said: str = "") -> Response:
    """One person and what may be done about them."""
    return render(request, "accounts/person.html", person=get_user(session, user_id), roles=list(Role), said=said)


@router.post("/{user_id}/role", name="accounts:change_role")
def change_role(
    user_id: int,
    request: Request,
    *,
    session: DbSession,
    by: CurrentAdmin,
    now: Now,
    form: Annotated[Submission[RoleForm], submitted(RoleForm)],
) -> Response:
    """Give a person another role."""
    user = get_user(session, user_id)
    set_role(session, user=user, role=form.checked().role, by_id=by.id, now=now)
    return _back_to(request, user, said="role-changed")


@router.post("/{user_id}/password-reset", name="accounts:reset_password")
def reset_password(user_id: int, request: Request, session: DbSession, by: CurrentAdmin, now: Now) -> Response:
    """Make a link by which a person chooses a new password, and show it this once."""
    user = get_user(session, user_id)
    fresh = create_password_reset(session, user=user, created_by_id=by.id, now=now)
    return link_page(request, fresh, for_whom=user.name)


@router.get("/{user_id}/deactivation", name="accounts:confirm_deactivation")
def confirm_deactivation(user_id: int, request: Request, session: DbSession) -> Response:
    """What deactivating a person means, before it is done."""
    return render(request, "accounts/deactivation.html", person=get_user(session, user_id))


@router.post("/{user_id}/deactivation", name="accounts:deactivate")
def deactivate(user_id: int, request: Request, session: DbSession, by: CurrentAdmin, now: Now) -> Response:
    """Shut a person out."""
    user = get_user(session, user_id)
    deactivate_user(session, user=user, by_id=by.id, now=now)
    return _back_to(request, user, said="deactivated")


@router.post("/{user_id}/reactivation", name="accounts:reactivate")
def reactivate(user_id: int, request: Request, session: DbSession, by: CurrentAdmin, now: Now) -> Response:
    """Let a person in again."""
    user = get_user(session, user_id)
    reactivate_user(session, user=user, by_id=by.id, now=now)
    return _back_to(request, user, said="reactivated")


def _back_to(request: Request, user: User, *, said: str) -> Response:
    path = request.app.url_path_for("accounts:person", user_id=user.id)
    return RedirectResponse(f"{path}?said={said}", status_code=303)
