"""How an installation is, part by part, each with what to do where it is not well."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from alembic.script import ScriptDirectory
from psycopg.errors import UndefinedColumn, UndefinedTable
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import SessionFactory
from app.datasets.models import Snapshot, SnapshotState
from app.deployments.model_server import connected, missing, wanted
from app.deployments.models import Deployment, ModelVersion
from app.errors import DomainError
from app.operation.processes import list_processes
from app.settings import Settings
from app.stack.migrations import alembic_config
from app.wording import gettext as _
from app.wording import ngettext

SILENT_SECONDS = 15
"""Without a heartbeat for so long a worker counts as gone."""
LEAST_FREE_BYTES = 1_000_000_000
LATE_SECONDS = 120
"""How long a job that is due may wait before somebody should look."""


@dataclass(frozen=True)
class Finding:
    """One part. `name` is stable, for programs; `advice` says what to do where it is not well."""

    name: str
    title: str
    is_well: bool
    message: str
    advice: str = ""


def examine(settings: Settings, sessions: SessionFactory, *, now: datetime, only: str | None = None) -> list[Finding]:
    """Look at every part, or at one; a part that cannot be asked is not well."""
    checks: dict[str, tuple[str, Callable[[], Finding]]] = {
        "database": (_("Database"), lambda: _in_session(sessions, _database)),
        "worker": (_("Worker"), lambda: _in_session(sessions, lambda session: _worker(session, now))),
        "jobs": (_("Jobs"), lambda: _in_session(sessions, lambda session: _jobs(session, now))),
        "model-server": (
            _("Model server"),
            lambda: _in_session(sessions, lambda session: _model_server(settings, session)),
        ),
        "disk": (_("Disk"), lambda: _disk(settings.data_dir)),
        "files": (_("Files"), lambda: _in_session(sessions, _files)),
        "web": (_("Web"), lambda: _in_session(sessions, lambda session: _web(session, settings, now))),
    }
    chosen = {only: checks[only]} if only is not None else checks
    return [_looked_at(name, title, check) for name, (title, check) in chosen.items()]


def _looked_at(name: str, title: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except DomainError as error:
        return Finding(name, title, False, error.message)
    except ProgrammingError as error:
        if not isinstance(error.orig, UndefinedTable | UndefinedColumn):
            raise
        advice = _("Bring it to this code's schema: `palate migrate`.")
        return Finding(name, title, False, _("The database lacks tables that this code needs."), advice)
    except SQLAlchemyError as error:
        said = str(error.__cause__ or error).strip().splitlines()[0]
        advice = _("Start the database, or correct DATABASE_URL.")
        return Finding(name, title, False, _("The database does not answer: %(said)s", said=said), advice)


def _in_session(sessions: SessionFactory, check: Callable[[Session], Finding]) -> Finding:
    with sessions() as session:
        return check(session)


def _database(session: Session) -> Finding:
    version = str(session.scalar(text("SHOW server_version")))
    revision = session.scalar(text("SELECT version_num FROM alembic_version"))
    newest = ScriptDirectory.from_config(alembic_config()).get_current_head()
    said = _("PostgreSQL %(version)s, schema revision %(revision)s", version=version, revision=revision)
    if revision == newest:
        return Finding("database", _("Database"), True, said)
    advice = _("This code wants revision %(newest)s. Run `palate migrate`.", newest=newest)
    return Finding("database", _("Database"), False, said, advice)


def _worker(session: Session, now: datetime) -> Finding:
    beats = session.scalars(text("SELECT last_heartbeat FROM procrastinate_workers")).all()
    alive = [beat for beat in beats if (now - beat).total_seconds() < SILENT_SECONDS]
    if alive:
        return Finding("worker", _("Worker"), True, ngettext("%(num)s running", "%(num)s running", len(alive)))
    advice = _("Completions, imports, snapshots and runs wait until one runs: `palate worker`.")
    return Finding("worker", _("Worker"), False, _("None is running."), advice)


def _jobs(session: Session, now: datetime) -> Finding:
    row = session.execute(
        text(
            """
            SELECT count(*) FILTER (WHERE status = 'doing') AS doing,
                   count(*) FILTER (WHERE status = 'todo' AND coalesce(scheduled_at, :now) <= :now) AS due,
                   count(*) FILTER (WHERE status = 'failed') AS failed,
                   min(events.at) FILTER (WHERE status = 'todo' AND coalesce(scheduled_at, :now) <= :now) AS oldest
            FROM procrastinate_jobs AS jobs
            LEFT JOIN LATERAL (SELECT max(at) AS at FROM procrastinate_events WHERE job_id = jobs.id) AS events ON true
            """
        ),
        {"now": now},
    ).one()
    said = _("%(doing)s under way, %(due)s waiting, %(failed)s given up", **row._mapping)
    waited = (now - row.oldest).total_seconds() if row.oldest is not None else 0.0
    if waited > LATE_SECONDS and row.doing == 0:
        advice = _("The oldest has waited %(seconds)s seconds. Look at the worker's log.", seconds=round(waited))
        return Finding("jobs", _("Jobs"), False, said, advice)
    return Finding("jobs", _("Jobs"), True, said)


def _model_server(settings: Settings, session: Session) -> Finding:
    with connected(settings) as server:
        state = server.state()
    lacks = missing(state, wanted(session))
    loaded = ngettext("%(num)s version loaded", "%(num)s versions loaded", len(state.versions))
    if not lacks.versions and not lacks.aliases:
        return Finding("model-server", _("Model server"), True, loaded)
    names = ", ".join([version.name for version in lacks.versions] or list(lacks.aliases))
    advice = _("It has yet to serve %(names)s; the worker tells it within seconds.", names=names)
    return Finding("model-server", _("Model server"), False, loaded, advice)


def _files(session: Session) -> Finding:
    """Whether what the rows promise lies on the disk: weights that serve, and snapshots to train on."""
    versions = session.scalars(
        select(ModelVersion)
        .join(Deployment, Deployment.version_id == ModelVersion.id)
        .where(Deployment.until.is_(None))
    ).unique()
    snapshots = session.scalars(select(Snapshot.path).where(Snapshot.state == SnapshotState.READY))
    weights = [version.path for version in versions if not version.is_elsewhere]
    wanted_folders = [*weights, *(path for path in snapshots if path is not None)]
    gone = sorted(path for path in set(wanted_folders) if not Path(path).is_dir())
    if not gone:
        said = ngettext(
            "%(num)s folder is where it should be", "%(num)s folders are where they should be", len(set(wanted_folders))
        )
        return Finding("files", _("Files"), True, said)
    named = ", ".join(gone[:3]) + (" …" if len(gone) > 3 else "")
    advice = _("Put them back from a backup, or point PALATE_DATA_DIR at the folder that holds them.")
    return Finding("files", _("Files"), False, _("Missing: %(named)s", named=named), advice)


def _web(session: Session, settings: Settings, now: datetime) -> Finding:
    """Whether pages are served, and all processes run this very code."""
    processes = list_processes(session, settings, now=now)
    serving = [process for process in processes if process.kind == "web" and process.is_alive]
    said = ngettext("%(num)s process serves pages", "%(num)s processes serve pages", len(serving))
    if not serving:
        return Finding("web", _("Web"), False, _("None is running."), _("Start it: `palate web`."))
    if older := sorted({process.title for process in processes if process.runs_other_code}):
        advice = _("Restart what was started on other code than this: %(names)s.", names=", ".join(older))
        return Finding("web", _("Web"), False, said, advice)
    return Finding("web", _("Web"), True, said)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    said = _("%(free)s GB free in %(folder)s", free=f"{free / 1e9:.1f}", folder=folder)
    if free >= LEAST_FREE_BYTES:
        return Finding("disk", _("Disk"), True, said)
    advice = _("Free some space: runs and snapshots need room, and a full disk stops the database.")
    return Finding("disk", _("Disk"), False, said, advice)
