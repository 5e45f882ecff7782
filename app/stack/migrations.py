"""Bringing a database to the schema of this code, and saying plainly when it is ahead of it."""

import time

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from app.errors import Conflict, Unavailable
from app.settings import ROOT

_MIGRATION_LOCK = 7_043_210_021
"""Advisory lock key: two processes started at once migrate one after the other."""
LOCK_MILLISECONDS = 400
"""How long a migration waits for a table. Whoever comes meanwhile waits behind it, and it must give way before
PostgreSQL (after a second) takes the two for a deadlock and ends either.
"""
PAUSE_SECONDS = 0.5
ATTEMPTS = 240


def migrate(engine: Engine, *, to: str = "head") -> None:
    """Upgrade to the newest revision, while others serve from the same database.

    Raises Conflict where the database is newer than the code, and Unavailable where somebody holds a table for minutes.
    """
    with engine.connect() as connection:
        _take_turns(connection)
        try:
            _refuse_newer(MigrationContext.configure(connection).get_current_revision())
            connection.execute(text(f"SET lock_timeout = '{LOCK_MILLISECONDS}ms'"))
            connection.commit()
            _upgrade(connection, to)
        finally:
            connection.rollback()
            connection.execute(text("RESET lock_timeout"))
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()


def _take_turns(connection: Connection) -> None:
    """Wait while another migrates, asking again and again: an index built concurrently waits for every statement
    under way, and one that itself waited for the lock would wait for ever.
    """
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _MIGRATION_LOCK}):
        connection.commit()
        time.sleep(PAUSE_SECONDS)
    connection.commit()


def _upgrade(connection: Connection, to: str) -> None:
    """Try until every table could be had; each revision is one step, and those taken stay."""
    config = alembic_config()
    config.attributes["connection"] = connection
    for _ in range(ATTEMPTS):
        try:
            command.upgrade(config, to)
            connection.commit()
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            connection.rollback()
            time.sleep(PAUSE_SECONDS)
        else:
            return
    raise Unavailable(
        "The database could not be brought to the newest revision: somebody holds one of its tables all the time. Look "
        "for long transactions (SELECT * FROM pg_stat_activity), end them, and run `palate migrate` again."
    )


def alembic_config() -> Config:
    """Alembic's configuration, as pyproject.toml holds it."""
    return Config(toml_file=str(ROOT / "pyproject.toml"))


def _refuse_newer(revision: str | None) -> None:
    if revision is None:
        return
    try:
        ScriptDirectory.from_config(alembic_config()).get_revision(revision)
    except CommandError as error:
        raise Conflict(
            f"The database is at revision {revision}, which this version of Palate does not know: it was upgraded by "
            "a newer one. Start that newer version, or restore a backup made before the upgrade."
        ) from error
