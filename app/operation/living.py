"""Telling that a process lives, so that the page *Condition* shows every one of them, on whichever machine."""

import logging
import threading
import uuid

from sqlalchemy import create_engine
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from app.clock import utc_now
from app.database import SessionFactory, driver_url, make_session_factory
from app.operation.models import SignOfLife
from trainer.contract.process import this_process

TELL_SECONDS = 10.0
log = logging.getLogger(__name__)


def keep_telling(database_url: str, *, kind: str, every_seconds: float = TELL_SECONDS) -> threading.Event:
    """Tell from now on, from a thread of its own that ends with the process or when the event is set.

    A database that is away is asked again the next time. No connection is held in between.
    """
    engine = create_engine(driver_url(database_url), poolclass=NullPool, hide_parameters=True)
    sessions, number, enough = make_session_factory(engine), uuid.uuid4(), threading.Event()

    def tell_on() -> None:
        while True:
            try:
                tell(sessions, kind=kind, number=number)
            except SQLAlchemyError as error:
                log.debug("No sign of life could be left: %s", error)
            if enough.wait(every_seconds):
                return

    threading.Thread(target=tell_on, name="sign-of-life", daemon=True).start()
    return enough


def tell(sessions: SessionFactory, *, kind: str, number: uuid.UUID) -> None:
    """Leave one sign of life of this process, over the one before."""
    facts, now = this_process(), utc_now()
    fresh = {"memory_bytes": facts.memory_bytes, "seen_at": now}
    fixed = {"host": facts.host, "pid": facts.pid, "version": facts.version, "started_at": facts.started_at}
    statement = insert(SignOfLife).values(id=number, kind=kind, note="", **fixed, **fresh)
    with sessions.begin() as session:
        session.execute(statement.on_conflict_do_update(index_elements=[SignOfLife.id], set_=fresh))
