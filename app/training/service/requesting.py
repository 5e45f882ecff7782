"""Asking for a run, and seeing whether one would make sense."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.service.sign_ins import Person
from app.audit import record_deed
from app.datasets.service.counting import Counts, judgment_counts
from app.datasets.service.snapshots import request_snapshot
from app.deployments.models import ModelLine, ModelVersion
from app.deployments.service import base_version, current_version, lock_line, next_version_number
from app.errors import Conflict, Invalid
from app.live.announcing import announce
from app.queue import enqueue
from app.training.models import Run, RunState
from app.wording import gettext as _
from app.wording import ngettext
from trainer.contract.run import Budget, Hyperparameters, Method
from trainer.contract.snapshot import SnapshotPolicy

LEAST_TRAINING_PAIRS = 10
"""With fewer a run says nothing: even pairs that all agree leave but two or three held out to tell by."""

UNDER_WAY = (RunState.WAITING, RunState.RUNNING)
Start = Literal["base", "current"]


@dataclass(frozen=True)
class Readiness:
    """What there is to train a line on. `obstacle` says why no run can start now; None where one can."""

    counts: Counts
    new_judgments: int
    """Judgments in force now that the last finished run did not see."""
    under_way: Run | None
    last: Run | None
    """The newest run that is over."""
    obstacle: str | None
    learns_demonstrations_alone: bool
    """Whether a run on demonstrations could start though there are too few preferences."""


def readiness(session: Session, *, line: ModelLine) -> Readiness:
    """Count what a run on this line would train on, and say what keeps it from starting."""
    counts = judgment_counts(session, line_id=line.id)
    under_way = find_run_under_way(session, line_id=line.id)
    seen = _last_run(session, line_id=line.id, states=(RunState.SUCCEEDED,))
    before = judgment_counts(session, line_id=line.id, as_of=seen.snapshot.as_of).judgments if seen else 0
    elsewhere = _elsewhere(session, line)
    obstacle = elsewhere or _obstacle(counts, under_way)
    return Readiness(
        counts=counts,
        new_judgments=max(0, counts.judgments - before),
        under_way=under_way,
        last=_last_run(session, line_id=line.id, states=[state for state in RunState if state.is_over]),
        obstacle=obstacle,
        learns_demonstrations_alone=obstacle is not None
        and (elsewhere or _obstacle(counts, under_way, method=Method.SFT)) is None,
    )


def _elsewhere(session: Session, line: ModelLine) -> str | None:
    if not base_version(session, line_id=line.id).is_elsewhere:
        return None
    return _(
        "This model lies on another server, so it cannot be trained here. Judgments of its completions can train "
        "another line: have a campaign of that line stay with this version."
    )


def _obstacle(counts: Counts, under_way: Run | None, *, method: Method = Method.DPO) -> str | None:
    if under_way is not None:
        if under_way.is_paused:
            return _("Run %(id)s on this line is paused. Continue it, or cancel it.", id=under_way.id)
        return _("Run %(id)s is under way on this line. Wait until it is over, or cancel it.", id=under_way.id)
    if method is Method.SFT:
        written = _("Nobody has written a completion on this line yet, so there are no demonstrations to train on.")
        return None if counts.demonstrations > 0 else written
    if counts.judgments == 0:
        return _("Nothing has been judged on this line yet. Judge some comparisons first.")
    if counts.train < LEAST_TRAINING_PAIRS:
        return ngettext(
            "So far there is %(num)s training pair, and a run needs at least %(least)s: judgments in which one "
            "completion is better, on prompts that are not held out. Judge some more.",
            "So far there are %(num)s training pairs, and a run needs at least %(least)s: judgments in which one "
            "completion is better, on prompts that are not held out. Judge some more.",
            counts.train,
            least=LEAST_TRAINING_PAIRS,
        )
    return None


def request_run(
    session: Session,
    *,
    line: ModelLine,
    person: Person | None,
    now: datetime,
    method: Method = Method.DPO,
    hyperparameters: Hyperparameters | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    start: Start = "base",
    campaign_id: int | None = None,
    deploys_when_passed: bool = True,
) -> Run:
    """Ask for a training on all judgments of a line (or of one campaign), and for what comes of it to serve.

    `start` is the line's base, or the version that serves now; it is the reference, too. Without a person it is
    the system that asks. Raises Conflict while another run is under way on the line, Invalid with too few pairs.
    """
    lock_line(session, line_id=line.id)
    if (elsewhere := _elsewhere(session, line)) is not None:
        raise Invalid(elsewhere)
    under_way = find_run_under_way(session, line_id=line.id)
    counts = judgment_counts(session, line_id=line.id, campaign_id=campaign_id)
    if under_way is not None:
        raise Conflict(_obstacle(counts, under_way) or "")
    if (obstacle := _obstacle(counts, None, method=method)) is not None:
        raise Invalid(obstacle)
    by_id = person.id if person is not None else None
    snapshot = request_snapshot(
        session, line_id=line.id, campaign_id=campaign_id, policy=SnapshotPolicy(), by_id=by_id, now=now
    )
    base = base_version(session, line_id=line.id)
    started_from = base if start == "base" else current_version(session, line_id=line.id)
    run = Run(
        line=line,
        snapshot=snapshot,
        base_version=base,
        start_version=started_from,
        reference_version=started_from,
        state=RunState.WAITING,
        method=method.value,
        hyperparameters=(hyperparameters or Hyperparameters()).model_dump(mode="json"),
        budget=(budget or Budget()).model_dump(mode="json"),
        seed=seed,
        version_number=next_version_number(session, line_id=line.id),
        deploys_when_passed=deploys_when_passed,
        message=_("Waiting for the worker."),
        requested_by_id=by_id,
        created_at=now,
    )
    session.add(run)
    session.flush()
    record_deed(session, action="run.requested", subject=run, subject_id=run.id, actor_id=by_id, now=now)
    enqueue_run(session, run=run)
    announce(session, "line", line.id)
    return run


def enqueue_run(session: Session, *, run: Run) -> None:
    """Have the worker carry a run out, or on.

    The snapshot's own lock: the run starts once its freezing is over, and while somebody is at it, nobody else waits
    for them inside the worker; who comes after finds the run over.
    """
    enqueue(session, "training:carry_out", lock=f"snapshot:{run.snapshot_id}", run_id=run.id)


def find_run_under_way(session: Session, *, line_id: int) -> Run | None:
    """The one run of a line that waits or runs, if any."""
    return session.scalars(select(Run).where(Run.line_id == line_id, Run.state.in_(UNDER_WAY))).one_or_none()


def _last_run(session: Session, *, line_id: int, states: tuple[RunState, ...] | list[RunState]) -> Run | None:
    """The newest run that trained the line's model; what a reward model has seen says nothing of that."""
    its_model = Run.method != Method.REWARD_MODEL
    query = select(Run).where(Run.line_id == line_id, Run.state.in_(states), its_model).order_by(Run.id.desc()).limit(1)
    return session.scalars(query).one_or_none()


def start_choices(session: Session, *, line: ModelLine) -> list[tuple[str, ModelVersion]]:
    """What a run on this line can start from, as values of `start` with their versions."""
    base = base_version(session, line_id=line.id)
    serving = current_version(session, line_id=line.id)
    return [("base", base)] + ([("current", serving)] if serving.id != base.id else [])
