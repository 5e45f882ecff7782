"""Bringing a database to the schema of this code, and saying plainly when it is ahead of it."""

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Engine, text

from app.errors import Conflict
from app.settings import ROOT

_MIGRATION_LOCK = 7_043_210_021
"""Advisory lock key: two processes started at once migrate one after the other."""


def migrate(engine: Engine) -> None:
    """Upgrade to the newest revision. Raises Conflict where the database is newer than the code."""
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        connection.commit()
        try:
            _refuse_newer(MigrationContext.configure(connection).get_current_revision())
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            connection.commit()


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
