"""Forgetting a person, for admins: what it would erase, and doing it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentAdmin, admin
from app.accounts.models import User
from app.accounts.service.people import get_user
from app.clock import Now
from app.database import DbSession
from app.datasets.schemas import ForgettingForm
from app.datasets.service.forgetting import forget_person, held_of
from app.forms import Submission, submitted
from app.templating import render
from app.wording import gettext as _

router = APIRouter(prefix="/people/{user_id}/forgetting", dependencies=[Depends(admin)])


@router.get("", name="datasets:confirm_forgetting")
def confirm(user_id: int, request: Request, session: DbSession) -> Response:
    """What forgetting a person means, before it is done."""
    return _page(request, session, get_user(session, user_id), Submission(typed={}))


@router.post("", name="datasets:forget")
def forget(
    *,
    user_id: int,
    request: Request,
    session: DbSession,
    by: CurrentAdmin,
    now: Now,
    form: Annotated[Submission[ForgettingForm], submitted(ForgettingForm)],
) -> Response:
    """Erase a person, once their email has been typed."""
    user = get_user(session, user_id)
    if user.forgotten_at is None:
        if form.checked().email.strip().casefold() != user.email.casefold():
            form = form.refused(email=_("This is not the email of the account that is to be erased."))
            return _page(request, session, user, form, status=422)
        forget_person(session, user=user, by_id=by.id, now=now)
    path = request.app.url_path_for("accounts:person", user_id=user.id)
    return RedirectResponse(f"{path}?said=forgotten", status_code=303)


def _page(
    request: Request, session: Session, user: User, form: Submission[ForgettingForm], *, status: int = 200
) -> Response:
    held = held_of(session, user_id=user.id)
    return render(request, "datasets/forgetting.html", status=status, person=user, held=held, form=form)
