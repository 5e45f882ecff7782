"""Putting background work in line, in the same transaction as the row that it is for.

The jobs themselves live in each domain's `jobs.py` and run in the worker. Delivered at least once:
every job can be run twice without harm. A job carries the id of the request that caused it, for the logs.
"""

from datetime import datetime
from typing import Any

import procrastinate
from procrastinate import SyncPsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from sqlalchemy.orm import Session

from trainer.contract.logs import request_id

REQUEST_ARGUMENT = "request_id"
"""Among a job's stored arguments; the worker takes it out before it runs the task."""

deferrer = procrastinate.App(connector=SyncPsycopgConnector())
"""Only describes jobs; the session's own connection carries them to the database."""


def enqueue(
    session: Session,
    task: str,
    *,
    queue: str = "default",
    once: str | None = None,
    lock: str | None = None,
    at: datetime | None = None,
    **arguments: Any,
) -> None:
    """Ask the worker for `task` once this transaction commits.

    `once` names work of which one waiting instance is enough; `lock` names what only one job at a time
    may touch; `at` puts the start off.
    """
    if once is None:
        _defer(session, task, arguments, queue=queue, lock=lock, schedule_at=at)
        return
    savepoint = session.begin_nested()
    try:
        _defer(session, task, arguments, queue=queue, queueing_lock=once, lock=lock, schedule_at=at)
    except AlreadyEnqueued:
        savepoint.rollback()
    else:
        savepoint.commit()


def _defer(session: Session, task: str, arguments: dict[str, Any], **options: Any) -> None:
    # The connection is asked for here, inside the savepoint: the session begins one only then.
    connection = session.connection().connection.driver_connection
    if (caused_by := request_id.get()) is not None:
        arguments = {**arguments, REQUEST_ARGUMENT: caused_by}
    deferrer.configure_task(name=task, connection=connection, allow_unknown=True, **options).defer(**arguments)
