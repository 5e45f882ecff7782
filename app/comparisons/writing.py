"""The pages on which annotators write: a better one than what they judged better, or the ideal one for a prompt."""

import uuid
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.campaigns.access import JudgedCampaign
from app.campaigns.guidance import guidance_of
from app.campaigns.models import CampaignKind, CampaignState
from app.clock import Now
from app.comparisons.access import OwnAssignment
from app.comparisons.service.correcting import (
    present_correction,
    save_correction,
    submit_demonstration,
    written_before,
)
from app.comparisons.service.desk import HeldAssignment, hold_desk
from app.comparisons.service.judging import Verdict
from app.comparisons.service.leasing import Lease, lease_next
from app.comparisons.service.presenting import Desk, Standing, present_desk
from app.comparisons.service.queueing import hand_out_prompts, request_fill
from app.database import DbSession
from app.errors import Invalid
from app.forms import Submission, submitted
from app.settings import Settings
from app.templating import is_htmx, render

router = APIRouter()


class DemonstrationForm(BaseModel):
    """What somebody wrote for the prompt at their desk."""

    key: uuid.UUID
    text: str = ""
    as_it_is: bool = False
    active_ms: int | None = None
    revision: int | None = None


class CorrectionForm(BaseModel):
    """What somebody wrote, and the shown place of the completion that they started from."""

    key: uuid.UUID
    start: int
    text: str = ""


@router.get("/assignments/{assignment_id}/correction", name="comparisons:correct")
def correct(request: Request, assignment: OwnAssignment, session: DbSession, start: int | None = None) -> Response:
    """The prompt, and a field that begins with the better completion's text, or with what was written before."""
    comparison = present_correction(session, assignment=assignment, start=start)
    form: Submission[CorrectionForm] = Submission(typed={"text": comparison.text, "key": comparison.key})
    return render(request, "comparisons/correct.html", comparison=comparison, form=form)


@router.post("/assignments/{assignment_id}/correction", name="comparisons:save_correction")
def save(
    *,
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[CorrectionForm], submitted(CorrectionForm)],
) -> Response:
    """Keep the correction and go back to judging; what says nothing or changes nothing is shown again."""
    given = form.checked()
    try:
        save_correction(session, assignment=assignment, start=given.start, text=given.text, key=given.key, now=now)
    except Invalid as refusal:
        comparison = present_correction(session, assignment=assignment, start=given.start)
        form = form.refused(text=refusal.message)
        return render(request, "comparisons/correct.html", status=422, comparison=comparison, form=form)
    request.app.state.hub.announce_soon("campaign", assignment.campaign_id)
    return _onwards(request, assignment)


@router.get("/campaigns/{campaign_id}/write", name="comparisons:write")
def write(request: Request, campaign: JudgedCampaign, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """The prompt at this person's desk, or the next one, and a field to write in."""
    if campaign.kind is not CampaignKind.DEMONSTRATION:
        return RedirectResponse(request.app.url_path_for("comparisons:judge", campaign_id=campaign.id), status_code=303)
    hold_desk(session, annotator_id=person.id)
    return _desk(request, session, campaign_id=campaign.id, hands_out=campaign.is_open, annotator_id=person.id, now=now)


@router.post("/assignments/{assignment_id}/demonstration", name="comparisons:demonstrate")
def demonstrate(
    *,
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[DemonstrationForm], submitted(DemonstrationForm)],
) -> Response:
    """Record what was written and go on to the next prompt; what says nothing is shown again."""
    given = form.checked()
    verdict = Verdict(active_ms=given.active_ms, revision=given.revision, ui_version="pages-1")
    try:
        submit_demonstration(
            session,
            assignment=assignment,
            text=given.text,
            key=given.key,
            verdict=verdict,
            now=now,
            as_it_is=given.as_it_is,
        )
    except Invalid as refusal:
        return _desk(
            request,
            session,
            campaign_id=assignment.campaign_id,
            hands_out=assignment.campaign_state is CampaignState.OPEN,
            annotator_id=assignment.annotator_id,
            now=now,
            form=form.refused(text=refusal.message),
        )
    request.app.state.hub.announce_soon("campaign", assignment.campaign_id)
    return _onwards(request, assignment)


def _desk(
    request: Request,
    session: Session,
    *,
    campaign_id: int,
    hands_out: bool,
    annotator_id: int,
    now: datetime,
    form: Submission[DemonstrationForm] | None = None,
) -> Response:
    """A person's desk in a demonstration campaign; their desk must be held. Prompts that came since are handed out."""
    settings: Settings = request.app.state.settings
    low_below = max(1, settings.queue_target // 2)
    lasts = timedelta(seconds=settings.lease_seconds)

    def lease_one() -> Lease | None:
        return lease_next(session, campaign_id=campaign_id, annotator_id=annotator_id, lasts=lasts, now=now)

    lease = lease_one() if hands_out else None
    if lease is None and hands_out and hand_out_prompts(session, campaign_id=campaign_id, now=now):
        lease = lease_one()
    desk = present_desk(
        session, campaign_id=campaign_id, annotator_id=annotator_id, lease=lease, now=now, low_below=low_below
    )
    if desk.is_low and hands_out:
        request_fill(session, campaign_id=campaign_id)
    if is_htmx(request) and form is None:
        return _looked_again(request, desk)
    if form is None:
        form = Submission(typed={"text": _text_to_begin_with(session, desk)})
    status = 422 if form.errors else 200
    guidance = guidance_of(session, revision_id=desk.revision_id)
    return render(request, "comparisons/write.html", status=status, desk=desk, form=form, guidance=guidance)


def _text_to_begin_with(session: Session, desk: Desk) -> str:
    """What this person wrote here before, or else the draft, or nothing."""
    if desk.comparison is None:
        return ""
    before = written_before(session, assignment_id=desk.comparison.assignment_id)
    return before if before is not None else "".join(desk.comparison.completions)


def _looked_again(request: Request, desk: Desk) -> Response:
    """For a page that waits for a draft: nothing as long as there is none, so that it stays as it is."""
    if desk.standing is Standing.WAITING:
        return Response(status_code=204)
    return Response(
        headers={"HX-Redirect": str(request.app.url_path_for("comparisons:write", campaign_id=desk.campaign_id))}
    )


def _onwards(request: Request, assignment: HeldAssignment) -> Response:
    """To the next comparison, or to the start page for who no longer judges here."""
    if assignment.still_judges:
        to = str(request.app.url_path_for("comparisons:judge", campaign_id=assignment.campaign_id))
    else:
        to = str(request.app.url_path_for("home"))
    return Response(headers={"HX-Redirect": to}) if is_htmx(request) else RedirectResponse(to, status_code=303)
