"""Requesting and finding snapshots."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.datasets.models import Snapshot, SnapshotState
from app.datasets.scope import Scope, resolved_scope, scope_name
from app.datasets.service.counting import judgment_counts
from app.errors import Conflict, Invalid, NotFound
from app.queue import enqueue
from app.wording import gettext as _
from trainer.contract.snapshot import SnapshotPolicy


def request_snapshot(
    session: Session,
    *,
    line_id: int | None,
    campaign_id: int | None,
    policy: SnapshotPolicy,
    by_id: int | None,
    now: datetime,
) -> Snapshot:
    """Ask for all judgments up to now to be frozen: of one campaign, or else of every campaign of a line.

    The worker writes it; the row waits until then. Raises Invalid where nothing has been judged yet.
    """
    scope = resolved_scope(session, line_id=line_id, campaign_id=campaign_id)
    counts = judgment_counts(session, line_id=scope.line_id, campaign_id=scope.campaign_id, as_of=now)
    if not (counts.judgments or counts.demonstrations):
        raise Invalid(_("Nothing has been judged yet, so there is nothing to freeze. Judge some comparisons first."))
    parent = latest_ready(session, scope)
    snapshot = Snapshot(
        name=_next_name(session, scope),
        line_id=scope.line_id,
        campaign_id=scope.campaign_id,
        state=SnapshotState.WAITING,
        policy=policy.model_dump(mode="json"),
        as_of=now,
        parent_id=parent.id if parent is not None else None,
        created_by_id=by_id,
        created_at=now,
    )
    session.add(snapshot)
    session.flush()
    _enqueue_freezing(session, snapshot)
    record_deed(session, action="snapshot.requested", subject=snapshot, subject_id=snapshot.id, actor_id=by_id, now=now)
    return snapshot


def retry_snapshot(session: Session, *, snapshot: Snapshot, by_id: int | None, now: datetime) -> None:
    """Freeze again what failed, as of the same instant. Raises Conflict where it has not failed."""
    if snapshot.state is not SnapshotState.FAILED:
        raise Conflict(_("This snapshot has not failed, so there is nothing to try again."))
    snapshot.state = SnapshotState.WAITING
    snapshot.message = ""
    session.flush()
    _enqueue_freezing(session, snapshot)
    record_deed(session, action="snapshot.retried", subject=snapshot, subject_id=snapshot.id, actor_id=by_id, now=now)


def fail_snapshot(session: Session, *, snapshot_id: int, reason: str) -> None:
    """Say why a snapshot could not be written, in words for its page; one that is over stays as it is."""
    snapshot = session.get_one(Snapshot, snapshot_id, with_for_update=True)
    if snapshot.state is SnapshotState.WAITING:
        snapshot.state = SnapshotState.FAILED
        snapshot.message = reason


def get_snapshot(session: Session, snapshot_id: int) -> Snapshot:
    """A snapshot; raises NotFound."""
    snapshot = session.get(Snapshot, snapshot_id)
    if snapshot is None:
        raise NotFound(_("There is no such snapshot."))
    return snapshot


def latest_ready(session: Session, scope: Scope) -> Snapshot | None:
    """The newest finished snapshot of exactly this scope."""
    query = (
        select(Snapshot)
        .where(*_same_scope(scope), Snapshot.state == SnapshotState.READY)
        .order_by(Snapshot.id.desc())
        .limit(1)
    )
    return session.scalars(query).one_or_none()


def list_snapshots(
    session: Session, *, line_ids: Collection[int], campaign_ids: Collection[int], limit: int = 200
) -> list[Snapshot]:
    """The snapshots of whole lines and of single campaigns among these, newest first."""
    query = (
        select(Snapshot)
        .where(
            or_(
                Snapshot.campaign_id.in_(campaign_ids),
                Snapshot.campaign_id.is_(None) & Snapshot.line_id.in_(line_ids),
            )
        )
        .order_by(Snapshot.id.desc())
        .limit(limit)
    )
    return list(session.scalars(query))


def _same_scope(scope: Scope) -> list[ColumnElement[bool]]:
    if scope.campaign_id is not None:
        return [Snapshot.campaign_id == scope.campaign_id]
    return [Snapshot.campaign_id.is_(None), Snapshot.line_id == scope.line_id]


def _next_name(session: Session, scope: Scope) -> str:
    """The scope's name with a number; only for people, so that two at once may share it."""
    earlier = session.scalar(select(func.count()).select_from(Snapshot).where(*_same_scope(scope)))
    return f"{scope_name(session, scope)} {(earlier or 0) + 1}"


def request_rows(session: Session, *, snapshot: Snapshot) -> None:
    """Have the worker lay out a snapshot's rows for looking at; one waiting request is enough."""
    name = f"rows:{snapshot.id}"
    enqueue(session, "datasets:lay_out_rows", once=name, lock=name, snapshot_id=snapshot.id)


def _enqueue_freezing(session: Session, snapshot: Snapshot) -> None:
    name = f"snapshot:{snapshot.id}"
    enqueue(session, "datasets:freeze_snapshot", once=name, lock=name, snapshot_id=snapshot.id)
