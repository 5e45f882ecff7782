"""Every process of the installation: which run, since when, on which code, with how much memory, and last heard when.

Web processes, workers and `palate up` leave signs of life in the database; PostgreSQL and the model server are asked;
the trainer is known by its run folder, which its machine shares with this one.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.database import SessionFactory
from app.deployments.model_server import ModelServerRefused, connected
from app.errors import DomainError
from app.operation.models import SignOfLife
from app.settings import Settings
from app.training.models import Run, RunState
from app.wording import gettext as _
from app.wording import mark as N_
from app.wording import ngettext
from trainer.contract.process import code_version
from trainer.contract.run import LOCK_FILE, LOG_FILE, METRICS_FILE

SILENT_SECONDS = 35.0
"""Three signs of life missed: the process is gone, or its machine is."""

KINDS = {
    "web": N_("Web"),
    "worker": N_("Worker"),
    "model-server": N_("Model server"),
    "trainer": N_("Trainer"),
    "postgres": N_("PostgreSQL"),
    "supervisor": N_("Supervisor (palate up)"),
}


@dataclass(frozen=True)
class ProcessSeen:
    """One process. What is not known of it is None; `version` marks the very code (`trainer.contract.process`)."""

    kind: str
    is_alive: bool
    host: str = ""
    pid: int | None = None
    version: str = ""
    memory_bytes: int | None = None
    started_at: datetime | None = None
    seen_at: datetime | None = None
    note: str = ""

    @property
    def title(self) -> str:
        """Its kind, in words."""
        return _(KINDS[self.kind])

    @property
    def runs_other_code(self) -> bool:
        """Whether it was started on other code than the process that asks."""
        return self.is_alive and "+" in self.version and self.version != code_version()


def list_processes(session: Session, settings: Settings, *, now: datetime) -> list[ProcessSeen]:
    """Every process, those first that pages need; of a kind that fell silent, the one last heard."""
    told = _told(session, now=now)
    return [
        *(_of_kind(told, "web") or [ProcessSeen("web", is_alive=False)]),
        *(_of_kind(told, "worker") or [ProcessSeen("worker", is_alive=False)]),
        _model_server(settings, now=now),
        *_trainers(session, settings, now=now),
        _postgres(session, now=now),
        *_of_kind(told, "supervisor"),
    ]


def processes_or_none(sessions: SessionFactory, settings: Settings, *, now: datetime) -> list[ProcessSeen] | None:
    """The same; None where the database does not answer, and nobody can be told of."""
    try:
        with sessions() as session:
            return list_processes(session, settings, now=now)
    except SQLAlchemyError:
        return None


def _told(session: Session, *, now: datetime) -> list[ProcessSeen]:
    signs = session.scalars(select(SignOfLife).order_by(SignOfLife.kind, SignOfLife.started_at))
    return [
        ProcessSeen(
            kind=sign.kind,
            is_alive=(now - sign.seen_at).total_seconds() < SILENT_SECONDS,
            host=sign.host,
            pid=sign.pid,
            version=sign.version,
            memory_bytes=sign.memory_bytes,
            started_at=sign.started_at,
            seen_at=sign.seen_at,
            note=sign.note,
        )
        for sign in signs
        if sign.kind in KINDS
    ]


def _of_kind(told: list[ProcessSeen], kind: str) -> list[ProcessSeen]:
    mine = [process for process in told if process.kind == kind]
    return [process for process in mine if process.is_alive] or mine[-1:]


def _model_server(settings: Settings, *, now: datetime) -> ProcessSeen:
    seen = ProcessSeen("model-server", is_alive=True, seen_at=now)
    try:
        with connected(settings) as server:
            loaded = len(server.state().versions)
            note = ngettext("%(num)s version loaded", "%(num)s versions loaded", loaded)
            return replace(seen, note=note, **server.process().model_dump())
    except ModelServerRefused as error:  # alive, and of a version that tells less of itself
        return replace(seen, note=error.message)
    except DomainError as error:
        return replace(seen, is_alive=False, seen_at=None, note=error.message)


def _postgres(session: Session, *, now: datetime) -> ProcessSeen:
    row = session.execute(
        text(
            """
            SELECT pg_postmaster_start_time() AS started_at, current_setting('server_version') AS version,
                   pg_database_size(current_database()) AS bytes,
                   (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
                   current_setting('max_connections')::int AS most
            """
        )
    ).one()
    note = _(
        "%(size)s MB of data, %(connections)s of %(most)s connections",
        size=f"{row.bytes / 1e6:,.0f}",
        connections=row.connections,
        most=row.most,
    )
    return ProcessSeen(
        "postgres", is_alive=True, version=row.version, started_at=row.started_at, seen_at=now, note=note
    )


def _trainers(session: Session, settings: Settings, *, now: datetime) -> list[ProcessSeen]:
    """One for each run under way; its trainer may lie on another machine, or be between two starts."""
    runs = session.scalars(select(Run).where(Run.state == RunState.RUNNING).order_by(Run.id)).all()
    return [_trainer(settings.runs_dir / str(run.id), note=_("Run %(id)s", id=run.id), now=now) for run in runs]


def _trainer(folder: Path, *, note: str, now: datetime) -> ProcessSeen:
    heard = [path.stat().st_mtime for name in (METRICS_FILE, LOG_FILE) if (path := folder / name).is_file()]
    seen = ProcessSeen(
        "trainer", is_alive=False, seen_at=datetime.fromtimestamp(max(heard), UTC) if heard else None, note=note
    )
    try:
        pid = int((folder / LOCK_FILE).read_text())
        process = psutil.Process(pid)
        if str(folder) not in process.cmdline():  # another machine's, or the number was given away since
            return seen
        return replace(
            seen,
            is_alive=True,
            pid=pid,
            memory_bytes=process.memory_info().rss,
            started_at=datetime.fromtimestamp(process.create_time(), UTC),
        )
    except (OSError, ValueError, psutil.Error):
        return replace(seen, is_alive=bool(heard) and now.timestamp() - max(heard) < SILENT_SECONDS)
