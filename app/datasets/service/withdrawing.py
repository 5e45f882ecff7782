"""Withdrawing snapshots: the files go, what they were stays known by the manifest.

The row says so first; a job deletes the files afterwards, and can be run again wherever it was killed. Models that
were trained from the snapshot are not touched: its page names them no more, and their runs still name the snapshot.
"""

import shutil
from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.datasets.looking import exports_folder
from app.datasets.models import Snapshot, SnapshotAnnotator, SnapshotState
from app.errors import Conflict, Invalid
from app.queue import enqueue
from app.settings import Settings
from app.wording import gettext as _
from trainer.contract.files import read_json
from trainer.contract.snapshot import MANIFEST_FILE, SnapshotManifest

LEAST_REASON_CHARACTERS = 10
MOST_REASON_CHARACTERS = 2000


def withdraw_snapshot(session: Session, *, snapshot: Snapshot, reason: str, by_id: int | None, now: datetime) -> None:
    """Take a frozen dataset back for good: nobody can read it or train on it any more.

    Runs under way on it are called off. Raises Invalid without a real reason, Conflict where it is not ready.
    """
    why = " ".join(reason.split())[:MOST_REASON_CHARACTERS]
    if len(why) < LEAST_REASON_CHARACTERS:
        raise Invalid(
            _(
                "Write down why this snapshot is withdrawn, in at least %(least)s characters. Whoever asks later "
                "will read it.",
                least=LEAST_REASON_CHARACTERS,
            )
        )
    session.refresh(snapshot, with_for_update=True)
    if snapshot.state is not SnapshotState.READY:
        raise Conflict(_("Only a snapshot that is ready can be withdrawn; this one holds no files to take back."))
    snapshot.state = SnapshotState.WITHDRAWN
    snapshot.message = why
    session.flush()
    record_deed(
        session, action="snapshot.withdrawn", subject=snapshot, subject_id=snapshot.id, actor_id=by_id, now=now,
        reason=why,
    )  # fmt: skip
    enqueue_withdrawals(session)


def enqueue_withdrawals(session: Session) -> None:
    """Have the worker delete what was withdrawn and call off the runs that were at it."""
    enqueue(session, "datasets:carry_out_withdrawals", once="datasets:carry_out_withdrawals")
    enqueue(session, "training:cancel_withdrawn", once="training:cancel_withdrawn")


def withdraw_snapshots_with(session: Session, *, user_id: int, reason: str, by_id: int | None, now: datetime) -> int:
    """Withdraw every snapshot that holds judgments of a person; returns how many."""
    held = (
        select(Snapshot)
        .join(SnapshotAnnotator, SnapshotAnnotator.snapshot_id == Snapshot.id)
        .where(SnapshotAnnotator.user_id == user_id, Snapshot.state == SnapshotState.READY)
        .order_by(Snapshot.id)
    )
    snapshots = list(session.scalars(held))
    for snapshot in snapshots:
        withdraw_snapshot(session, snapshot=snapshot, reason=reason, by_id=by_id, now=now)
    return len(snapshots)


def withdrawn_files(settings: Settings, snapshot: Snapshot) -> list[Path]:
    """The files of a withdrawn snapshot that are still there: all but its manifest.

    A folder whose manifest is of another snapshot belongs to another database and is left alone.
    """
    folder = settings.snapshots_dir / str(snapshot.id)
    exports = exports_folder(settings, snapshot.id)
    if snapshot.state is not SnapshotState.WITHDRAWN or not _is_its_own(folder, snapshot):
        return []
    held = [path for path in sorted(folder.iterdir()) if path.name != MANIFEST_FILE] if folder.is_dir() else []
    return [*held, exports] if exports.is_dir() else held


def delete_withdrawn_files(settings: Settings, snapshot: Snapshot) -> int:
    """Delete them; returns how many files and folders went."""
    paths = withdrawn_files(settings, snapshot)
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(paths)


def list_withdrawn(session: Session) -> list[Snapshot]:
    """Every withdrawn snapshot."""
    return list(session.scalars(select(Snapshot).where(Snapshot.state == SnapshotState.WITHDRAWN)))


def _is_its_own(folder: Path, snapshot: Snapshot) -> bool:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return folder.is_dir()
    manifest = read_json(path, SnapshotManifest)
    return (manifest.snapshot_id, manifest.rows_sha256) == (str(snapshot.id), snapshot.rows_sha256)
