"""The list of campaigns, the one form that writes and changes them, and a campaign's own page."""

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CampaignCreator, CurrentPerson
from app.accounts.models import Role
from app.accounts.service.sign_ins import Person
from app.campaigns.access import ManagedCampaign, ReadableCampaign, effective_access
from app.campaigns.asking import asked_by
from app.campaigns.guidance import guidance
from app.campaigns.models import Access, Campaign
from app.campaigns.schemas import CampaignForm, typed_for, typed_for_new, typed_guidance, typed_with_rows
from app.campaigns.service import (
    campaign_progress,
    close_campaign,
    create_campaign,
    current_revision,
    edit_campaign,
    list_campaigns,
    list_enrolments,
    list_model_sources,
    obstacles_to_opening,
    open_campaign,
    pause_campaign,
    progress_by_person,
    revise_campaign,
)
from app.campaigns.service.sources import IMPORTED_ONLY, find_writer
from app.clock import Now
from app.database import DbSession
from app.errors import DomainError
from app.forms import Submission, submitted
from app.live.announcing import topic
from app.live.stream import follow
from app.templating import is_htmx, render

router = APIRouter(prefix="/campaigns")

SubmittedCampaign = Annotated[Submission[CampaignForm], submitted(CampaignForm)]


@router.get("", name="campaigns:index")
def list_all(request: Request, session: DbSession, person: CurrentPerson) -> Response:
    """The campaigns that this person has a part in."""
    return render(
        request,
        "campaigns/index.html",
        listed=list_campaigns(session, person=person),
        may_create=person.is_at_least(Role.MANAGER),
    )


@router.get("/new", name="campaigns:new")
def show_blank_form(request: Request, session: DbSession, person: CampaignCreator) -> Response:
    """The form for a new campaign, set as most will want it."""
    sources = list_model_sources(session)
    source = sources[0].key if sources else IMPORTED_ONLY
    return _form_page(request, session, Submission(typed=typed_for_new(source)))


@router.post("", name="campaigns:create")
def create(
    request: Request, session: DbSession, person: CampaignCreator, now: Now, form: SubmittedCampaign
) -> Response:
    """Create a campaign, or show its form again with what is wrong or with the preview asked for."""
    if _is_being_written(form):
        return _form_page(request, session, Submission(typed=typed_with_rows(form.typed)))
    if form.value is None:
        return _form_page(request, session, form, status=422)
    try:
        with session.begin_nested():
            plan, question = form.value.plan(), form.value.question()
            campaign = create_campaign(
                session, plan=plan, question=question, by_id=person.id, now=now, kind=form.value.kind
            )
    except DomainError as refusal:
        return _form_page(request, session, form.refused(form=refusal.message), status=refusal.status)
    return _to_campaign(request, campaign.id, said="created")


@router.post("/guidelines-preview", name="campaigns:preview")
def preview_guidelines(request: Request, person: CampaignCreator, form: SubmittedCampaign) -> Response:
    """Guidelines and examples as annotators will see them, while they are being written."""
    told = typed_guidance(form.typed)
    return render(request, "campaigns/_guidelines_preview.html", guidance=told, out_of_band=False)


@router.post("/examples", name="campaigns:examples")
def change_rows(request: Request, person: CampaignCreator, form: SubmittedCampaign) -> Response:
    """The rows of examples with one more or one less, while they are being written; nothing is kept of it."""
    form = Submission(typed=typed_with_rows(form.typed))
    return render(request, "campaigns/examples_changed.html", form=form, guidance=typed_guidance(form.typed))


@router.get("/{campaign_id}", name="campaigns:show")
def show(
    request: Request, session: DbSession, person: CurrentPerson, campaign: ReadableCampaign, said: str = ""
) -> Response:
    """How a campaign is going, and all that can be done with it; only its figures where htmx asks again."""
    progress = campaign_progress(session, campaign.id)
    if is_htmx(request):
        return render(request, "campaigns/_progress.html", campaign=campaign, progress=progress)
    may_manage = effective_access(session, campaign_id=campaign.id, person=person) is Access.MANAGE
    revision = current_revision(session, campaign.id)
    return render(
        request,
        "campaigns/show.html",
        campaign=campaign,
        progress=progress,
        revision=revision,
        guidance=guidance(revision.guidelines, revision.examples),
        asked=asked_by(revision.criteria, revision.scales),
        writer=find_writer(session, campaign),
        obstacles=obstacles_to_opening(session, campaign),
        enrolments=list_enrolments(session, campaign_id=campaign.id),
        by_person=progress_by_person(session, campaign.id),
        may_manage=may_manage,
        said=said,
    )


@router.get("/{campaign_id}/events", name="campaigns:events")
async def events(request: Request, campaign: ReadableCampaign) -> Response:
    """When a campaign gets further, and when something changes on its line."""
    line = [] if campaign.line_id is None else [topic("line", campaign.line_id)]
    return follow(request, [topic("campaign", campaign.id), *line])


@router.get("/{campaign_id}/edit", name="campaigns:edit")
def show_form(request: Request, session: DbSession, campaign: ManagedCampaign) -> Response:
    """The form of a campaign as it is."""
    revision = current_revision(session, campaign.id)
    return _form_page(request, session, Submission(typed=typed_for(campaign, revision)), campaign=campaign)


@router.post("/{campaign_id}", name="campaigns:update")
def update(
    request: Request,
    *,
    session: DbSession,
    person: CurrentPerson,
    campaign: ManagedCampaign,
    now: Now,
    form: SubmittedCampaign,
) -> Response:
    """Change a campaign: its plan in place, what annotators are told and asked as a new revision."""
    if _is_being_written(form):
        return _form_page(request, session, Submission(typed=typed_with_rows(form.typed)), campaign=campaign)
    if form.value is None:
        return _form_page(request, session, form, campaign=campaign, status=422)
    try:
        with session.begin_nested():
            _save(session, campaign, form.value, by=person, now=now)
    except DomainError as refusal:
        form = form.refused(form=refusal.message)
        return _form_page(request, session, form, campaign=campaign, status=refusal.status)
    return _to_campaign(request, campaign.id, said="saved")


@router.post("/{campaign_id}/opening", name="campaigns:open")
def open_for_judging(
    request: Request, session: DbSession, person: CurrentPerson, campaign: ManagedCampaign, now: Now
) -> Response:
    """Open a campaign, or resume a paused one."""
    open_campaign(session, campaign=campaign, by_id=person.id, now=now)
    return _to_campaign(request, campaign.id, said="opened")


@router.post("/{campaign_id}/pause", name="campaigns:pause")
def pause(request: Request, session: DbSession, person: CurrentPerson, campaign: ManagedCampaign, now: Now) -> Response:
    """Hand out nothing more for a while."""
    pause_campaign(session, campaign=campaign, by_id=person.id, now=now)
    return _to_campaign(request, campaign.id, said="paused")


@router.post("/{campaign_id}/closure", name="campaigns:close")
def close(request: Request, session: DbSession, person: CurrentPerson, campaign: ManagedCampaign, now: Now) -> Response:
    """End a campaign for good."""
    close_campaign(session, campaign=campaign, by_id=person.id, now=now)
    return _to_campaign(request, campaign.id, said="closed")


def _save(session: Session, campaign: Campaign, form: CampaignForm, *, by: Person, now: Now) -> None:
    edit_campaign(session, campaign=campaign, plan=form.plan(), by_id=by.id, now=now)
    revise_campaign(session, campaign=campaign, question=form.question(), by_id=by.id, now=now)


def _form_page(
    request: Request,
    session: Session,
    form: Submission[CampaignForm],
    *,
    campaign: Campaign | None = None,
    status: int = 200,
) -> Response:
    return render(
        request,
        "campaigns/form.html",
        status=status,
        form=form,
        campaign=campaign,
        guidance=typed_guidance(form.typed),
        sources=list_model_sources(session),
        imported_only=IMPORTED_ONLY,
    )


def _is_being_written(form: Submission[CampaignForm]) -> bool:
    """Whether a button asked to see the form again, with a preview or another row, rather than to save it."""
    return "preview" in form.typed or "rows" in form.typed


def _to_campaign(request: Request, campaign_id: int, *, said: str) -> Response:
    path = request.app.url_path_for("campaigns:show", campaign_id=campaign_id)
    return RedirectResponse(f"{path}?said={said}", status_code=303)
