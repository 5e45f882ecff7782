"""What nobody needs any more, by the rule of docs/operations.md ("Disk"): found here, deleted every hour by the worker.

Only what a row of this database vouches for is deleted; a folder that belongs to another database, or to nobody, is
left alone. Versions and snapshots that are not withdrawn are never touched.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import delete, exists, select, text
from sqlalchemy.orm import Session

from app.accounts.models import SignIn
from app.datasets.service.withdrawing import list_withdrawn, withdrawn_files
from app.generation.models import Import, ImportState
from app.operation.models import SignOfLife
from app.settings import Settings
from app.training.models import Run, RunState
from trainer.contract.files import read_json
from trainer.contract.run import CHECKPOINTS_FOLDER, MODEL_FOLDER, REQUEST_FILE, RunRequest

FAILED_RUNS_KEEP = timedelta(days=7)
"""A failed run can be gone on with from its checkpoints by hand (docs/training.md), so they stay for a while."""
CACHE_KEEPS = timedelta(days=30)
"""Since its last use. A run that misses the reference's log-probabilities computes them anew."""
DRAFTS_KEEP = timedelta(days=1)
"""What a process that was killed left half written; nothing takes so long to write."""
FAILED_JOBS_KEEP = timedelta(days=30)
SIGNS_OF_LIFE_KEEP = timedelta(days=1)

DRAFTS = ("snapshots/.*.part", "snapshots/.*.lock", "runs/*/.*.part", ".restore-*", ".palate-dump-*", "uploads/.*")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may go, and by which part of the rule."""

    path: Path
    why: str
    bytes: int


def leftovers(session: Session, settings: Settings, *, now: datetime) -> list[Leftover]:
    """Everything that may go now."""
    found = [
        *_of_runs(session, settings, now=now),
        *_of_snapshots(session, settings),
        *_of_uploads(session, settings, now=now),
        *_of_the_cache(session, settings, now=now),
        *_drafts(settings, now=now),
    ]
    return [Leftover(path, why, _size(path)) for path, why in found]


def remove(found: Iterable[Leftover]) -> int:
    """Delete what was found; returns how many bytes that was. What is gone already is no trouble."""
    freed = 0
    for leftover in found:
        if leftover.path.is_dir():
            shutil.rmtree(leftover.path, ignore_errors=True)
        else:
            leftover.path.unlink(missing_ok=True)
        freed += leftover.bytes
    return freed


def remove_rows(session: Session, *, now: datetime) -> None:
    """Forget sign-ins that ran out, processes long silent, and jobs that failed long ago."""
    session.execute(delete(SignIn).where(SignIn.expires_at < now))
    session.execute(delete(SignOfLife).where(SignOfLife.seen_at < now - SIGNS_OF_LIFE_KEEP))
    session.execute(
        text(
            """
            DELETE FROM procrastinate_jobs AS jobs
            WHERE status IN ('failed', 'cancelled', 'aborted')
              AND NOT EXISTS (SELECT FROM procrastinate_events WHERE job_id = jobs.id AND at >= :since)
            """
        ),
        {"since": now - FAILED_JOBS_KEEP},
    )


Found = Iterator[tuple[Path, str]]


def _of_runs(session: Session, settings: Settings, *, now: datetime) -> Found:
    over = select(Run).where(Run.state.in_([state for state in RunState if state.is_over])).order_by(Run.id)
    for run in session.scalars(over):
        folder = settings.runs_dir / str(run.id)
        failed = run.state is RunState.FAILED
        if not _is_its_own(folder, run) or (failed and now - (run.finished_at or now) < FAILED_RUNS_KEEP):
            continue
        if (folder / CHECKPOINTS_FOLDER).is_dir():
            yield folder / CHECKPOINTS_FOLDER, f"checkpoints of run {run.id}, which {run.state.value}"
        if run.state is not RunState.SUCCEEDED and (folder / MODEL_FOLDER).is_dir():
            yield folder / MODEL_FOLDER, f"a model that run {run.id} wrote and that was not registered"


def _is_its_own(folder: Path, run: Run) -> bool:
    """Whether a run folder is of this row, rather than of another database that once used the place."""
    try:
        request = read_json(folder / REQUEST_FILE, RunRequest)
    except (OSError, ValidationError):
        return False
    return (request.run_id, request.seed) == (str(run.id), run.seed)


def _of_snapshots(session: Session, settings: Settings) -> Found:
    for snapshot in list_withdrawn(session):
        for path in withdrawn_files(settings, snapshot):
            yield path, f"a file of snapshot {snapshot.id}, which was withdrawn"


def _of_uploads(session: Session, settings: Settings, *, now: datetime) -> Found:
    ended = {ImportState.DONE, ImportState.FAILED}
    states = {f"import-{record.id}": record.state for record in session.execute(select(Import.id, Import.state))}
    for path in _files(settings.data_dir, "uploads/import-*"):
        state = states.get(path.name)
        if state in ended:
            yield path, "an uploaded file that has been read"
        elif state is None and _is_older(path, DRAFTS_KEEP, now=now):
            yield path, "an uploaded file whose import was never begun"


def _of_the_cache(session: Session, settings: Settings, *, now: datetime) -> Found:
    if session.scalar(select(exists().where(Run.state.in_([RunState.WAITING, RunState.RUNNING])))):
        return
    for path in _files(settings.data_dir, "reference-cache/**/*"):
        if path.is_file() and _is_unused(path, CACHE_KEEPS, now=now):
            yield path, "log-probabilities of a reference that no run has used for long"


def _drafts(settings: Settings, *, now: datetime) -> Found:
    for pattern in DRAFTS:
        for path in _files(settings.data_dir, pattern):
            if _is_older(path, DRAFTS_KEEP, now=now):
                yield path, "left half written by a process that was killed"


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(path for path in folder.glob(pattern) if not path.is_symlink())


def _is_older(path: Path, than: timedelta, *, now: datetime) -> bool:
    """Whether nothing has written to a file, or to anything in a folder, for so long."""
    written = max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    return now.timestamp() - written > than.total_seconds()


def _is_unused(path: Path, than: timedelta, *, now: datetime) -> bool:
    """Whether nobody has read or written a file for so long; where reading is not noted, only writing counts."""
    stat = path.lstat()
    return now.timestamp() - max(stat.st_mtime, stat.st_atime) > than.total_seconds()


def _size(path: Path) -> int:
    return sum(each.lstat().st_size for each in (path, *path.rglob("*")) if not each.is_dir())
