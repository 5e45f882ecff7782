"""The people of a campaign: enrolled, invited by a link, given more or less to do, removed."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.campaigns.access import LEVELS, ManagedCampaign, ceiling, within
from app.campaigns.models import Access, Campaign, Enrolment
from app.campaigns.schemas import EnrolmentForm, PartForm
from app.campaigns.service import (
    change_enrolment,
    enrol_person,
    invite_person,
    list_enrolments,
    list_pending_invitations,
    progress_by_person,
    remove_enrolment,
)
from app.clock import Now
from app.database import DbSession
from app.errors import DomainError
from app.forms import Submission, submitted
from app.settings import Settings
from app.templating import render

router = APIRouter(prefix="/campaigns/{campaign_id}")

SubmittedEnrolment = Annotated[Submission[EnrolmentForm], submitted(EnrolmentForm)]


@router.get("/people", name="campaigns:people")
def show_people(request: Request, session: DbSession, campaign: ManagedCampaign, now: Now, said: str = "") -> Response:
    """Everybody who takes part, and the form to take in more."""
    return _people_page(request, session, campaign, Submission(typed={"judges": "true"}), said=said)


@router.post("/people", name="campaigns:enrol")
def enrol(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ManagedCampaign,
    now: Now,
    form: SubmittedEnrolment,
) -> Response:
    """Give somebody who has an account a part in the campaign."""
    if form.value is None:
        return _people_page(request, session, campaign, form, status=422)
    try:
        enrol_person(session, campaign=campaign, **form.value.model_dump(), by_id=person.id, now=now)
    except DomainError as refusal:
        form = form.refused(email=refusal.message)
        return _people_page(request, session, campaign, form, status=refusal.status)
    return _to_people(request, campaign, said="enrolled")


@router.post("/invitations", name="campaigns:invite")
def invite(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ManagedCampaign,
    now: Now,
    form: SubmittedEnrolment,
) -> Response:
    """Make a link by which somebody new joins and is enrolled; it is shown this once."""
    if form.value is None:
        return _people_page(request, session, campaign, form, status=422)
    try:
        invitation = invite_person(session, campaign=campaign, **form.value.model_dump(), by=person, now=now)
    except DomainError as refusal:
        form = form.refused(email=refusal.message)
        return _people_page(request, session, campaign, form, status=refusal.status)
    settings: Settings = request.app.state.settings
    address = f"{str(settings.base_url or request.base_url).rstrip('/')}{invitation.fresh.path}"
    context = {"campaign": campaign, "invitation": invitation, "address": address}
    return render(request, "campaigns/invited.html", status=201, **context)


@router.post("/people/{user_id}", name="campaigns:change_part")
def change_part(
    user_id: int,
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ManagedCampaign,
    now: Now,
    form: Annotated[Submission[PartForm], submitted(PartForm)],
) -> Response:
    """Change what an enrolled person does and may see."""
    part = form.checked()
    change_enrolment(
        session, campaign=campaign, user_id=user_id, judges=part.judges, access=part.access, by_id=person.id, now=now
    )
    return _to_people(request, campaign, said="changed")


@router.post("/people/{user_id}/removal", name="campaigns:remove_person")
def remove(
    user_id: int, request: Request, *, session: DbSession, person: CurrentPerson, campaign: ManagedCampaign, now: Now
) -> Response:
    """End a person's part; their judgments stay."""
    remove_enrolment(session, campaign=campaign, user_id=user_id, by_id=person.id, now=now)
    return _to_people(request, campaign, said="removed")


def _people_page(
    request: Request,
    session: Session,
    campaign: Campaign,
    form: Submission[EnrolmentForm],
    *,
    status: int = 200,
    said: str = "",
) -> Response:
    now = request.app.state.clock()
    enrolments = list_enrolments(session, campaign_id=campaign.id)
    return render(
        request,
        "campaigns/people.html",
        status=status,
        campaign=campaign,
        enrolments=[(each, within(each.access, each.user.role), _choices(each)) for each in enrolments],
        invitations=list_pending_invitations(session, campaign_id=campaign.id, now=now),
        by_person=progress_by_person(session, campaign.id),
        form=form,
        said=said,
    )


def _choices(enrolment: Enrolment) -> list[Access]:
    """What this person could be granted."""
    most = LEVELS[ceiling(enrolment.user.role)]
    return [access for access in Access if LEVELS[access] <= most]


def _to_people(request: Request, campaign: Campaign, *, said: str) -> Response:
    path = request.app.url_path_for("campaigns:people", campaign_id=campaign.id)
    return RedirectResponse(f"{path}?said={said}", status_code=303)
