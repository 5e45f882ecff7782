"""What a test has put in line for the worker."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.queue import REQUEST_ARGUMENT


def queued(session: Session) -> list[tuple[str, dict[str, Any]]]:
    """Waiting jobs in order: task name and arguments, without what the logs alone want."""
    rows = session.execute(text("SELECT task_name, args FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id"))
    return [(name, {key: value for key, value in given.items() if key != REQUEST_ARGUMENT}) for name, given in rows]
