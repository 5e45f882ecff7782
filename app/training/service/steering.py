"""What is done to a run under way: calling it off, having it wait, letting it go on."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.datasets.models import Snapshot, SnapshotState
from app.errors import Conflict
from app.live.announcing import announce
from app.training.models import Run, RunState
from app.training.service.requesting import UNDER_WAY, enqueue_run
from app.wording import gettext as _


def cancel_run(session: Session, *, run: Run, by_id: int | None, now: datetime) -> None:
    """Call a run off: at once while it waits, else as soon as the trainer listens, between two steps.

    Raises Conflict where the run is over.
    """
    session.refresh(run, with_for_update=True)
    if run.state.is_over:
        raise Conflict(_("This run is over already, so there is nothing to cancel."))
    if run.cancel_requested:
        return
    was_paused, run.cancel_requested, run.pause_requested = run.pause_requested, True, False
    if run.state is RunState.WAITING:
        run.state = RunState.CANCELLED
        run.message = _("Cancelled before it started.")
        run.finished_at = now
    else:
        run.message = _("Cancelling: the trainer stops after the step that it is at.")
        if was_paused:
            enqueue_run(session, run=run)
    _changed(session, run, "cancelled", by_id=by_id, now=now)


def cancel_runs_on_withdrawn(session: Session, *, now: datetime) -> int:
    """Call off what trains on a snapshot that was withdrawn; returns how many runs that were."""
    withdrawn = Snapshot.state == SnapshotState.WITHDRAWN
    runs = session.scalars(select(Run).join(Run.snapshot).where(Run.state.in_(UNDER_WAY), withdrawn)).all()
    for run in runs:
        cancel_run(session, run=run, by_id=None, now=now)
    return len(runs)


def pause_run(session: Session, *, run: Run, by_id: int | None, now: datetime) -> None:
    """Have a run wait, for however long: the trainer stops after the step that it is at, and loses nothing.

    Pausing a paused run does nothing. Raises Conflict where the run is over or being cancelled.
    """
    _require_under_way(session, run, _("pause"))
    if run.pause_requested:
        return
    run.pause_requested = True
    if run.state is RunState.WAITING:
        run.message = _("Paused before it started.")
    else:
        run.message = _("Pausing: the trainer stops after the step that it is at.")
    _changed(session, run, "paused", by_id=by_id, now=now)


def continue_run(session: Session, *, run: Run, by_id: int | None, now: datetime) -> None:
    """Let a paused run go on from where it is; one that is not paused goes on anyway.

    Raises Conflict where the run is over or being cancelled.
    """
    _require_under_way(session, run, _("continue"))
    if not run.pause_requested:
        return
    run.pause_requested = False
    run.message = _("Waiting for the worker.") if run.state is RunState.WAITING else _("Going on.")
    enqueue_run(session, run=run)
    _changed(session, run, "continued", by_id=by_id, now=now)


def _require_under_way(session: Session, run: Run, what: str) -> None:
    """Hold the run, and raise Conflict where it goes nowhere any more."""
    session.refresh(run, with_for_update=True)
    if run.state.is_over:
        raise Conflict(_("This run is over already, so there is nothing to %(what)s.", what=what))
    if run.cancel_requested:
        raise Conflict(_("This run is being cancelled, so there is nothing to %(what)s.", what=what))


def _changed(session: Session, run: Run, verb: str, *, by_id: int | None, now: datetime) -> None:
    session.flush()
    announce(session, "run", run.id)
    announce(session, "line", run.line_id)
    record_deed(session, action=f"run.{verb}", subject=run, subject_id=run.id, actor_id=by_id, now=now)
