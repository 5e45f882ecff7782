"""The pages of annotators: where they judge, the judging panel, what they decided, and taking it back."""

from datetime import datetime, timedelta
from typing import Annotated

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.accounts.models import Role
from app.campaigns.access import JudgedCampaign
from app.campaigns.asking import asked_by
from app.campaigns.guidance import guidance_of
from app.campaigns.models import CampaignKind, CampaignState
from app.campaigns.service import current_revision, list_campaigns, progress_by_person
from app.campaigns.service.leaving import awaits_warning, left_campaigns
from app.clock import Now
from app.comparisons.access import OwnAssignment
from app.comparisons.models import AssignmentState
from app.comparisons.schemas import ChangeForm, JudgmentForm, RetractionForm, SkipForm
from app.comparisons.service import editing, judging, leasing
from app.comparisons.service.desk import HeldAssignment, hold_desk
from app.comparisons.service.history import Decision, HistorySearch, past_verdicts
from app.comparisons.service.marking import shown_texts
from app.comparisons.service.presenting import present_desk
from app.comparisons.service.queueing import request_fill
from app.comparisons.service.working import ahead_of
from app.database import DbSession
from app.errors import Conflict
from app.forms import Submission, submitted
from app.routing import InOneThread
from app.settings import Settings
from app.templating import is_htmx, render
from app.wording import gettext as _
from trainer.contract.steps import Step, passing

router = APIRouter(route_class=InOneThread)


@router.get("/", name="home")
def home(request: Request, person: CurrentPerson, session: DbSession) -> Response:
    """The campaigns in which a person judges; who has nothing but one of them goes straight there."""
    listed = list_campaigns(session, person=person)
    judged = [item for item in listed if item.judges]
    left = left_campaigns(session, user_id=person.id)
    if person.role is Role.ANNOTATOR and len(judged) == 1 and not left:
        return _to_judging(request, judged[0].campaign.id)
    own = {item.campaign.id: progress_by_person(session, item.campaign.id).get(person.id) for item in judged}
    open_ids = [item.campaign.id for item in judged if item.campaign.is_open]
    ahead = {each: ahead_of(session, campaign_id=each, user_id=person.id) for each in open_ids}
    has_others = len(judged) < len(listed)
    return render(
        request, "comparisons/home.html", judged=judged, own=own, ahead=ahead, has_others=has_others, left=left
    )


@router.get("/campaigns/{campaign_id}/judge", name="comparisons:judge")
def judge(request: Request, campaign: JudgedCampaign, person: CurrentPerson, session: DbSession, now: Now) -> Response:
    """The comparison at this person's desk, or the next one; before the first, what the campaign warns of. Where
    prompts are written for, that is done elsewhere.
    """
    if awaits_warning(session, campaign=campaign, user_id=person.id):
        return _to_warning(request, campaign.id)
    if campaign.kind is CampaignKind.DEMONSTRATION:
        return RedirectResponse(request.app.url_path_for("comparisons:write", campaign_id=campaign.id), status_code=303)
    hold_desk(session, annotator_id=person.id)
    template = "comparisons/_judging_panel.html" if is_htmx(request) else "comparisons/judge.html"
    return _desk(
        request,
        session,
        campaign_id=campaign.id,
        hands_out=campaign.is_open,
        annotator_id=person.id,
        now=now,
        template=template,
    )


@router.post("/assignments/{assignment_id}/judgment", name="comparisons:record")
def record(
    *,
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[JudgmentForm], submitted(JudgmentForm)],
) -> Response:
    """Record a verdict and answer with the next comparison."""
    given = form.checked()
    recorded = judging.record_judgment(session, assignment=assignment, verdict=given.verdict(), key=given.key, now=now)
    passing(Step.JUDGMENT_RECORDING)
    closed = assignment.state is AssignmentState.OPEN and not recorded.replayed
    done = 0 if recorded.replayed else 1
    return _answer(
        request,
        session,
        assignment=assignment,
        now=now,
        said="recorded",
        none_open=closed,
        has_shape=given.shape,
        left=given.left_after(done),
        judged_today=given.judged_today_after(done, now),
    )


@router.post("/assignments/{assignment_id}/skip", name="comparisons:skip")
def skip(
    *,
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[SkipForm], submitted(SkipForm)],
) -> Response:
    """Pass on a comparison and answer with the next one."""
    given = form.checked()
    reason = "" if given.without_reason else given.reason
    judging.skip(session, assignment=assignment, reason=reason, now=now)
    closed = assignment.state is AssignmentState.OPEN
    return _answer(
        request,
        session,
        assignment=assignment,
        now=now,
        said="skipped",
        none_open=closed,
        has_shape=given.shape,
        left=given.left_after(1 if closed else 0),
        judged_today=given.judged_today_after(0, now),
    )


@router.post("/assignments/{assignment_id}/retraction", name="comparisons:retract")
def retract(
    *,
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[RetractionForm], submitted(RetractionForm)],
) -> Response:
    """Undo: put a judged or skipped comparison back at the desk."""
    given = form.checked()
    _require_still_judging(assignment)
    judging.retract(session, assignment=assignment, key=given.key, lasts=_lease_lasts(request), now=now)
    left = given.left_after(0 if assignment.state is AssignmentState.OPEN else -1)
    return _answer(request, session, assignment=assignment, now=now, said="undone", has_shape=given.shape, left=left)


@router.post("/assignments/{assignment_id}/renewal", name="comparisons:renew", status_code=204)
def renew(request: Request, assignment: OwnAssignment, session: DbSession, now: Now) -> Response:
    """A sign of life: the comparison stays reserved for this person."""
    if assignment.still_judges:
        leasing.renew(session, assignment=assignment, lasts=_lease_lasts(request), now=now)
    return Response(status_code=204)


@router.get("/assignments/{assignment_id}/texts", name="comparisons:texts")
def texts(assignment: OwnAssignment, session: DbSession) -> Response:
    """The completions as they are stored, in the order in which they are shown: what is marked in them is counted in
    their characters. In JSON, for HTML makes one line end of another.
    """
    given = {"texts": shown_texts(session, assignment.shown_order)}
    return Response(orjson.dumps(given), media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/campaigns/{campaign_id}/judgments", name="comparisons:history")
def history(
    *,
    request: Request,
    campaign: JudgedCampaign,
    person: CurrentPerson,
    session: DbSession,
    page: int = 1,
    q: str = "",
    decision: str = "",
    flag: str = "",
    said: str = "",
) -> Response:
    """What this person decided in the campaign, or what of it they look for, newest first."""
    search = HistorySearch.typed(q=q, decision=decision, flag=flag)
    past = past_verdicts(session, campaign_id=campaign.id, annotator_id=person.id, page=page, search=search)
    asked = [asked_by(revision.criteria, revision.scales) for revision in campaign.revisions]
    current = current_revision(session, campaign.id)
    return render(
        request,
        "comparisons/history.html",
        campaign=campaign,
        past=past,
        corrects=asked_by(current.criteria, current.scales).corrections,
        search=search,
        decisions=list(Decision),
        flags=list(dict.fromkeys(flag for each in asked for flag in each.flags)),
        categories={category.name: place for each in asked for place, category in enumerate(each.spans, start=1)},
        said=said,
    )


@router.get("/assignments/{assignment_id}/judgment", name="comparisons:edit")
def edit(request: Request, assignment: OwnAssignment, session: DbSession, now: Now) -> Response:
    """A judgment of one's own opened again, with what was answered."""
    _require_still_judging(assignment)
    past = editing.open_judgment(session, assignment=assignment, now=now)
    return render(request, "comparisons/edit.html", past=past)


@router.post("/assignments/{assignment_id}/revision", name="comparisons:revise")
def revise(
    request: Request,
    assignment: OwnAssignment,
    session: DbSession,
    now: Now,
    form: Annotated[Submission[ChangeForm], submitted(ChangeForm)],
) -> Response:
    """Record another verdict on what was judged, as its next revision."""
    given = form.checked()
    _require_still_judging(assignment)
    editing.change_judgment(session, assignment=assignment, verdict=given.verdict(), key=given.key, now=now)
    request.app.state.hub.announce_soon("campaign", assignment.campaign_id)
    path = request.app.url_path_for("comparisons:history", campaign_id=assignment.campaign_id)
    return RedirectResponse(f"{path}?said=changed#past-{assignment.id}", status_code=303)


def _answer(
    request: Request,
    session: Session,
    *,
    assignment: HeldAssignment,
    now: datetime,
    said: str,
    has_shape: str,
    none_open: bool = False,
    left: int | None = None,
    judged_today: int | None = None,
) -> Response:
    """The panel with what is at the desk now; a plain form is sent back to the judging page.

    `none_open`: what was done took their open comparison off the desk.
    """
    request.app.state.hub.announce_soon("campaign", assignment.campaign_id)
    if not assignment.still_judges:
        return _away(request)
    if not is_htmx(request):
        return _to_judging(request, assignment.campaign_id)
    return _desk(
        request,
        session,
        campaign_id=assignment.campaign_id,
        hands_out=assignment.campaign_state is CampaignState.OPEN,
        annotator_id=assignment.annotator_id,
        now=now,
        template="comparisons/_judging_panel.html",
        said=said,
        has_shape=has_shape,
        none_open=none_open,
        left=left,
        judged_today=judged_today,
    )


def _desk(
    request: Request,
    session: Session,
    *,
    campaign_id: int,
    hands_out: bool,
    annotator_id: int,
    now: datetime,
    template: str,
    said: str = "",
    has_shape: str | None = None,
    none_open: bool = False,
    left: int | None = None,
    judged_today: int | None = None,
) -> Response:
    """Render a person's desk, with a comparison leased to it where there is one; their desk must be held.

    `has_shape`: the page has the sheets for comparisons of this shape; None sends them in any case. Sees to it as well
    that the queue does not run dry.
    """
    lease = None
    if hands_out:
        lasts = _lease_lasts(request)
        lease = leasing.lease_next(
            session, campaign_id=campaign_id, annotator_id=annotator_id, lasts=lasts, now=now, none_open=none_open
        )
    desk = present_desk(
        session,
        campaign_id=campaign_id,
        annotator_id=annotator_id,
        lease=lease,
        now=now,
        left=left,
        judged_today=judged_today,
        low_below=max(1, _settings(request).queue_target // 2),
    )
    if desk.is_low and hands_out:
        request_fill(session, campaign_id=campaign_id)
    sheets = has_shape is None or (desk.comparison is not None and desk.comparison.shape != has_shape)
    guidance = guidance_of(session, revision_id=desk.revision_id) if sheets else None
    return render(request, template, desk=desk, said=said, sheets=sheets, guidance=guidance)


def _require_still_judging(assignment: HeldAssignment) -> None:
    if not assignment.still_judges:
        raise Conflict(_("You no longer judge in this campaign, so what was decided stays as it is."))


def _away(request: Request) -> Response:
    """To the start page, for who no longer judges here; what they sent has been recorded all the same."""
    home = str(request.app.url_path_for("home"))
    return Response(headers={"HX-Redirect": home}) if is_htmx(request) else RedirectResponse(home, status_code=303)


def _to_warning(request: Request, campaign_id: int) -> Response:
    path = str(request.app.url_path_for("comparisons:warning", campaign_id=campaign_id))
    return Response(headers={"HX-Redirect": path}) if is_htmx(request) else RedirectResponse(path, status_code=303)


def _to_judging(request: Request, campaign_id: int) -> Response:
    return RedirectResponse(request.app.url_path_for("comparisons:judge", campaign_id=campaign_id), status_code=303)


def _lease_lasts(request: Request) -> timedelta:
    return timedelta(seconds=_settings(request).lease_seconds)


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings
