"""What a test has put in line for the worker."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session


def queued(session: Session) -> list[tuple[str, dict[str, Any]]]:
    """Waiting jobs in order: task name and arguments."""
    rows = session.execute(text("SELECT task_name, args FROM procrastinate_jobs WHERE status = 'todo' ORDER BY id"))
    return [(name, arguments) for name, arguments in rows]
