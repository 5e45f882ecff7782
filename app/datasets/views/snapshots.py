"""The Snapshots pages: what can be frozen, what has been, and the files to take away."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from sqlalchemy.orm import Session

from app.accounts.access import CurrentPerson
from app.accounts.service.sign_ins import Person
from app.campaigns.access import ReadableCampaign
from app.clock import Now
from app.database import DbSession
from app.datasets.access import (
    ManagedSnapshot,
    ReadableSnapshot,
    WhollyReadableLine,
    may_withdraw,
    readable_campaigns,
    wholly_readable_lines,
)
from app.datasets.archive import zipped
from app.datasets.looking import export_file, snapshot_folder, snapshot_page, snapshot_rows
from app.datasets.models import Snapshot, SnapshotState
from app.datasets.schemas import PolicyForm, WithdrawalForm
from app.datasets.scope import Scope, scope_name
from app.datasets.service.counting import judgment_counts
from app.datasets.service.snapshots import list_snapshots, request_snapshot, retry_snapshot
from app.datasets.service.withdrawing import withdraw_snapshot
from app.errors import Invalid, NotFound
from app.forms import Submission, submitted
from app.settings import Settings
from app.templating import is_htmx, render
from app.wording import gettext as _

router = APIRouter()

SentPolicy = Annotated[Submission[PolicyForm], submitted(PolicyForm)]


def settings_of(request: Request) -> Settings:
    """The settings that the app was created with."""
    settings: Settings = request.app.state.settings
    return settings


TheSettings = Annotated[Settings, Depends(settings_of)]


@router.get("/snapshots", name="datasets:index")
def index(request: Request, person: CurrentPerson, session: DbSession) -> Response:
    """What this person may freeze, and the snapshots that they may read."""
    campaigns = readable_campaigns(session, person=person)
    lines = wholly_readable_lines(session, person=person)
    snapshots = list_snapshots(
        session, line_ids=[line.id for line in lines], campaign_ids=[campaign.id for campaign in campaigns]
    )
    rows = snapshot_rows(snapshots)
    return render(request, "datasets/index.html", lines=lines, campaigns=campaigns, rows=rows)


@router.get("/models/{line_id}/snapshots", name="datasets:of_line")
def of_line(request: Request, line: WhollyReadableLine, session: DbSession) -> Response:
    """What a snapshot of all campaigns of a line would hold, and those there are."""
    return _scope_page(request, session, Scope(line_id=line.id, campaign_id=None))


@router.get("/campaigns/{campaign_id}/snapshots", name="datasets:of_campaign")
def of_campaign(request: Request, campaign: ReadableCampaign, session: DbSession) -> Response:
    """What a snapshot of a campaign would hold, and those there are."""
    return _scope_page(request, session, Scope(line_id=campaign.line_id, campaign_id=campaign.id))


@router.post("/models/{line_id}/snapshots", name="datasets:freeze_line")
def freeze_line(
    *, request: Request, line: WhollyReadableLine, form: SentPolicy, person: CurrentPerson, session: DbSession, now: Now
) -> Response:
    """Ask for all judgments of a line to be frozen."""
    snapshot = request_snapshot(
        session, line_id=line.id, campaign_id=None, policy=form.checked().policy(), by_id=person.id, now=now
    )
    return _to(request, snapshot)


@router.post("/campaigns/{campaign_id}/snapshots", name="datasets:freeze_campaign")
def freeze_campaign(
    *,
    request: Request,
    campaign: ReadableCampaign,
    form: SentPolicy,
    person: CurrentPerson,
    session: DbSession,
    now: Now,
) -> Response:
    """Ask for all judgments of a campaign to be frozen."""
    snapshot = request_snapshot(
        session, line_id=None, campaign_id=campaign.id, policy=form.checked().policy(), by_id=person.id, now=now
    )
    return _to(request, snapshot)


@router.get("/snapshots/{snapshot_id}", name="datasets:show")
def show(request: Request, snapshot: ReadableSnapshot, session: DbSession, settings: TheSettings) -> Response:
    """One snapshot, in whatever state; asked again by the page while it is being written."""
    template = "datasets/_snapshot.html" if is_htmx(request) else "datasets/show.html"
    return _snapshot_page(request, session, snapshot, Submission(typed={}), template=template)


@router.post("/snapshots/{snapshot_id}/attempts", name="datasets:retry")
def retry(
    request: Request, snapshot: ReadableSnapshot, person: CurrentPerson, session: DbSession, now: Now
) -> Response:
    """Freeze again what failed."""
    retry_snapshot(session, snapshot=snapshot, by_id=person.id, now=now)
    return _to(request, snapshot)


@router.post("/snapshots/{snapshot_id}/withdrawal", name="datasets:withdraw")
def withdraw(
    *,
    request: Request,
    snapshot: ManagedSnapshot,
    form: Annotated[Submission[WithdrawalForm], submitted(WithdrawalForm)],
    person: CurrentPerson,
    session: DbSession,
    now: Now,
) -> Response:
    """Take a snapshot back: its files are deleted, its manifest stays."""
    try:
        withdraw_snapshot(session, snapshot=snapshot, reason=form.checked().reason, by_id=person.id, now=now)
    except Invalid as refusal:
        return _snapshot_page(request, session, snapshot, form.refused(reason=refusal.message), status=422)
    return _to(request, snapshot)


@router.get("/snapshots/{snapshot_id}/folder.zip", name="datasets:folder")
def folder(snapshot: ReadableSnapshot) -> Response:
    """The snapshot folder as a zip, made while it is sent."""
    path = snapshot_folder(snapshot)
    if path is None:
        raise NotFound(why_no_files(snapshot))
    name = _file_name(snapshot)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(zipped(path, root=name), media_type="application/zip", headers=headers)


@router.get("/snapshots/{snapshot_id}/trl-preference.{split}.jsonl", name="datasets:trl")
def trl(snapshot: ReadableSnapshot, split: Literal["train", "eval"], settings: TheSettings) -> Response:
    """The preference pairs of one side as TRL reads them."""
    path = export_file(settings, snapshot, split)
    if path is None:
        raise NotFound(why_no_files(snapshot))
    filename = f"{_file_name(snapshot)}.trl-preference.{split}.jsonl"
    return FileResponse(path, media_type="application/x-ndjson", filename=filename)


def _snapshot_page(
    request: Request,
    session: Session,
    snapshot: Snapshot,
    form: Submission[WithdrawalForm],
    *,
    template: str = "datasets/show.html",
    status: int = 200,
) -> Response:
    person: Person = request.state.user
    return render(
        request,
        template,
        status=status,
        page=snapshot_page(session, settings_of(request), snapshot),
        form=form,
        may_withdraw=may_withdraw(session, snapshot=snapshot, person=person),
    )


def _scope_page(request: Request, session: Session, scope: Scope) -> Response:
    whole_line = scope.campaign_id is None
    snapshots = list_snapshots(
        session,
        line_ids=[scope.line_id] if whole_line and scope.line_id is not None else [],
        campaign_ids=[scope.campaign_id] if scope.campaign_id is not None else [],
    )
    form: Submission[PolicyForm] = Submission(typed={})
    return render(
        request,
        "datasets/scope.html",
        scope=scope,
        name=scope_name(session, scope),
        whole_line=whole_line,
        counts=judgment_counts(session, line_id=scope.line_id, campaign_id=scope.campaign_id),
        rows=snapshot_rows(snapshots),
        form=form,
    )


def _to(request: Request, snapshot: Snapshot) -> Response:
    address = request.app.url_path_for("datasets:show", snapshot_id=snapshot.id)
    return RedirectResponse(address, status_code=303)


def _file_name(snapshot: Snapshot) -> str:
    """The snapshot's name as a file's: plain letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", snapshot.name.lower()).strip("-")
    return f"{plain[:60]}-snapshot-{snapshot.id}" if plain else f"snapshot-{snapshot.id}"


def why_no_files(snapshot: Snapshot) -> str:
    """Why there is nothing to take away or to look at."""
    return {
        SnapshotState.WAITING: _("This snapshot is still being written. Wait until its page says that it is ready."),
        SnapshotState.FAILED: _("This snapshot could not be written; its page says why."),
        SnapshotState.WITHDRAWN: _("This snapshot was withdrawn and its files were deleted."),
        SnapshotState.READY: _("The files of this snapshot are no longer where they were written. Ask an admin."),
    }[snapshot.state]
