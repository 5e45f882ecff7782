"""What every background job is handed: settings, a way to open transactions, and a clock.

A domain's `jobs.py` holds a procrastinate `Blueprint`; the worker adds it under the domain's name, so that
`enqueue(session, "comparisons:fill_queue", campaign_id=1)` reaches the task `fill_queue` of
`app/generation/jobs.py`. Tasks are plain functions that run in threads:

    @blueprint.task(name="fill_queue", pass_context=True, retry=outlasting())
    def fill_queue(context: JobContext, *, campaign_id: int) -> None:
        place = workplace(context)
        with place.session_factory.begin() as session: ...
"""

from dataclasses import dataclass, field
from threading import Event

from procrastinate import JobContext, RetryStrategy
from sqlalchemy.exc import InterfaceError, OperationalError

from app.clock import Clock
from app.database import SessionFactory
from app.settings import Settings

DATABASE_AWAY = (OperationalError, InterfaceError)
"""What a job meets whose database is restarted under it."""


def outlasting(*absences: type[Exception]) -> RetryStrategy:
    """How every job is tried again while what it needs is away: the database, and what else is named.

    At once, then after 2, 4, 6 ... seconds, a minute and a half in all. Short, since a waiting retry holds back
    whatever comes after it under the same lock.
    """
    return RetryStrategy(max_attempts=10, linear_wait=2, retry_exceptions={*DATABASE_AWAY, *absences})


@dataclass(frozen=True)
class Workplace:
    """Where a job works."""

    settings: Settings
    session_factory: SessionFactory
    clock: Clock
    stopping: Event = field(default_factory=Event)
    """Set once the worker was told to stop: a job that takes long leaves what it is at, fit to be taken up again."""


class WorkerStopping(Exception):
    """A job left off because its worker stops; whoever runs it again goes on where it was."""


def workplace(context: JobContext) -> Workplace:
    """The workplace that the worker gave to this job."""
    place = context.additional_context["workplace"]
    assert isinstance(place, Workplace)
    return place
