"""Invitations: made by admins, shown once, withdrawn while nobody has used them."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentAdmin
from app.accounts.models import Role
from app.accounts.schemas import InvitationForm
from app.accounts.service.links import FreshLink, create_invitation, list_open_invitations, withdraw_invitation
from app.accounts.service.people import find_user_by_email
from app.clock import Now
from app.database import DbSession
from app.forms import Submission, submitted
from app.settings import Settings
from app.templating import render
from app.wording import gettext as _

router = APIRouter(prefix="/people/invitations")


@router.get("", name="accounts:invitations")
def show_invitations(request: Request, session: DbSession, admin: CurrentAdmin, now: Now, said: str = "") -> Response:
    """The form for an invitation, and those still open."""
    blank: Submission[InvitationForm] = Submission(typed={"role": Role.ANNOTATOR.value})
    return _invitations_page(request, session, blank, said=said)


@router.post("", name="accounts:invite")
def invite(
    request: Request,
    session: DbSession,
    admin: CurrentAdmin,
    now: Now,
    form: Annotated[Submission[InvitationForm], submitted(InvitationForm)],
) -> Response:
    """Make an invitation and show its link, this once."""
    if form.value is None:
        return _invitations_page(request, session, form, status=422)
    role, email = form.value.role, form.value.email
    if email is not None and (known := find_user_by_email(session, email)) is not None:
        form = form.refused(email=_("%(name)s has an account with this email already.", name=known.name))
        return _invitations_page(request, session, form, status=422)
    fresh = create_invitation(session, role=role, email=email, created_by_id=admin.id, now=now)
    return link_page(request, fresh, for_whom=email or "")


@router.post("/{link_id}/withdrawal", name="accounts:withdraw_invitation")
def withdraw(link_id: int, request: Request, session: DbSession, admin: CurrentAdmin, now: Now) -> Response:
    """Make an invitation unusable."""
    withdraw_invitation(session, link_id=link_id, by_id=admin.id, now=now)
    path = request.app.url_path_for("accounts:invitations")
    return RedirectResponse(f"{path}?said=invitation-withdrawn", status_code=303)


def link_page(request: Request, fresh: FreshLink, *, for_whom: str) -> Response:
    """A link just made, to be copied now: only its hash is kept."""
    settings: Settings = request.app.state.settings
    address = f"{str(settings.base_url or request.base_url).rstrip('/')}{fresh.path}"
    return render(request, "accounts/fresh_link.html", status=201, link=fresh.link, address=address, for_whom=for_whom)


def _invitations_page(
    request: Request, session: Session, form: Submission[InvitationForm], *, status: int = 200, said: str = ""
) -> Response:
    invitations = list_open_invitations(session, now=request.app.state.clock())
    return render(
        request,
        "accounts/invitations.html",
        status=status,
        form=form,
        invitations=invitations,
        said=said,
        roles=list(Role),
    )
