"""Training by itself: a line whose manager asked for it starts a run after every so many new judgments."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.datasets.service.counting import judgment_counts
from app.deployments.models import ModelLine
from app.deployments.service import lock_line
from app.errors import Invalid
from app.training.models import LineSchedule, Run
from app.training.service.requesting import LEAST_TRAINING_PAIRS, Readiness, readiness, request_run
from app.wording import gettext as _

LEAST = LEAST_TRAINING_PAIRS
MOST = 1_000_000


def find_schedule(session: Session, *, line_id: int) -> LineSchedule | None:
    """After how many new judgments a line trains by itself; None where it does not."""
    return session.get(LineSchedule, line_id)


def set_schedule(session: Session, *, line: ModelLine, every: int | None, by_id: int | None, now: datetime) -> None:
    """Have a line train after every so many new judgments, or with None by hand alone."""
    if every is not None and not LEAST <= every <= MOST:
        raise Invalid(_("Choose a number from %(least)s to %(most)s.", least=LEAST, most=f"{MOST:,}"))
    schedule = find_schedule(session, line_id=line.id)
    if every is None:
        if schedule is not None:
            session.delete(schedule)
    elif schedule is None:
        session.add(LineSchedule(line_id=line.id, every_judgments=every, set_by_id=by_id, set_at=now))
    else:
        schedule.every_judgments, schedule.set_by_id, schedule.set_at = every, by_id, now
    session.flush()
    record_deed(
        session, action="line.scheduled", subject=line, subject_id=line.id, actor_id=by_id, now=now, every=every
    )


def start_due_runs(session: Session, *, now: datetime) -> list[Run]:
    """Start a run on every line that has gathered enough judgments since its last one, however that one ended.

    A line that cannot be trained now (another run is under way, too few pairs) is looked at again the next time.
    """
    started = []
    query = select(LineSchedule.line_id, LineSchedule.every_judgments).order_by(LineSchedule.line_id)
    for line_id, every in session.execute(query).all():
        line = lock_line(session, line_id=line_id)
        ready = readiness(session, line=line)
        if ready.obstacle is None and judgments_gathered(session, ready) >= every:
            started.append(request_run(session, line=line, person=None, now=now))
    return started


def judgments_gathered(session: Session, ready: Readiness) -> int:
    """Judgments of a line that its last run did not take in, however that one ended."""
    if ready.last is None:
        return ready.counts.judgments
    seen = judgment_counts(session, line_id=ready.last.line_id, as_of=ready.last.snapshot.as_of)
    return max(0, ready.counts.judgments - seen.judgments)


@dataclass(frozen=True)
class Due:
    """How far a line is to its next run by itself: `gathered` of `every` judgments."""

    every: int
    gathered: int


def find_due(session: Session, *, line: ModelLine, ready: Readiness | None = None) -> Due | None:
    """How far a line is to its next run by itself; None where it is trained by hand alone."""
    schedule = find_schedule(session, line_id=line.id)
    if schedule is None:
        return None
    return Due(schedule.every_judgments, judgments_gathered(session, ready or readiness(session, line=line)))
