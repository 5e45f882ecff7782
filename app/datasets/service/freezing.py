"""Freezing a snapshot: from the judgments of an instant to a folder that never changes.

Killed anywhere it can be run again. The folder is built beside its place and appears there whole, by one
rename, with the manifest written last; the row learns of it last. Whoever finds the folder in its place
finishes the row from its manifest.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.database import SessionFactory
from app.datasets.card import dataset_card, described_campaigns
from app.datasets.looking import exports_folder
from app.datasets.models import Snapshot, SnapshotAnnotator, SnapshotState
from app.datasets.scope import Scope, campaigns_in, scope_labels
from app.datasets.service.judged import begin_consistent_reading
from app.datasets.service.snapshot_files import Progress, Tally, write_rows
from app.datasets.service.snapshots import fail_snapshot
from app.datasets.trl import write_trl_preference
from app.errors import Conflict, DomainError
from app.pseudonyms import Pseudonyms
from app.settings import Settings
from app.wording import gettext as _
from trainer.contract.files import read_json, write_json
from trainer.contract.snapshot import CARD_FILE, MANIFEST_FILE, SnapshotManifest, SnapshotPolicy
from trainer.contract.steps import Step, passing

COUNTS = (
    *(
        "judgments",
        "surplus",
        "rejected",
        "rankings_train",
        "rankings_eval",
        "pairs_train",
        "pairs_eval",
        "ties",
        "all_bad_only",
    ),
    *("checks", "neither_split", "comparisons", "prompts", "annotators", "demonstrations", "corrections"),
)
"""What a manifest counts; docs/formats.md says what each means."""


def freeze_snapshot(
    session_factory: SessionFactory,
    settings: Settings,
    *,
    snapshot_id: int,
    now: datetime,
    progress: Progress | None = None,
) -> None:
    """Write the folder of a requested snapshot and mark it ready; a snapshot that is over is left alone.

    Where it cannot be written (a full disk, a folder of another installation in its place) the row says why,
    and the error is raised again.
    """
    folder = settings.snapshots_dir / str(snapshot_id)
    try:
        with _alone(folder):
            _freeze(session_factory, settings, folder=folder, snapshot_id=snapshot_id, now=now, progress=progress)
    except (DomainError, OSError) as error:
        reason = error.message if isinstance(error, DomainError) else _said(error)
        with session_factory.begin() as session:
            fail_snapshot(session, snapshot_id=snapshot_id, reason=reason)
        raise


def _said(error: OSError) -> str:
    reason = error.strerror or str(error)
    return _(
        "The files could not be written: %(reason)s. Ask an admin to look at the disk, then try again.", reason=reason
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from building the same folder: its own job and a run that needs it may start at once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
        # Only after success: whoever still waits for this lock, or takes a new one, finds the work done.
        path.unlink(missing_ok=True)


def _freeze(
    session_factory: SessionFactory,
    settings: Settings,
    *,
    folder: Path,
    snapshot_id: int,
    now: datetime,
    progress: Progress | None,
) -> None:
    with session_factory.begin() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        if snapshot.state in {SnapshotState.READY, SnapshotState.WITHDRAWN}:
            return
        as_of = snapshot.as_of
    if not (folder / MANIFEST_FILE).exists():
        _build(session_factory, settings, folder=folder, snapshot_id=snapshot_id, now=now, progress=progress)
    manifest = read_json(folder / MANIFEST_FILE, SnapshotManifest)
    _refuse_another_installations(manifest, folder, snapshot_id=snapshot_id, as_of=as_of)
    write_trl_preference(folder, exports_folder(settings, snapshot_id))
    passing(Step.SNAPSHOT_EXPORTED)
    _mark_ready(session_factory, snapshot_id=snapshot_id, folder=folder, manifest=manifest, now=now)
    passing(Step.SNAPSHOT_MARKED)


def _build(
    session_factory: SessionFactory,
    settings: Settings,
    *,
    folder: Path,
    snapshot_id: int,
    now: datetime,
    progress: Progress | None,
) -> None:
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    passing(Step.SNAPSHOT_BEGUN)
    with session_factory.begin() as session:
        begin_consistent_reading(session)
        snapshot = session.get_one(Snapshot, snapshot_id)
        tally, digest = write_rows(session, snapshot, part, Pseudonyms(settings.required_secret()), progress)
        manifest = _manifest(session, snapshot, part, tally=tally, digest=digest, now=now)
        campaigns = described_campaigns(session, campaigns_in(session, Scope.of(snapshot)))
    passing(Step.SNAPSHOT_ROWS_WRITTEN)
    _note_annotators(session_factory, snapshot_id=snapshot_id, user_ids=tally.user_ids)
    passing(Step.SNAPSHOT_ANNOTATORS_NOTED)
    _finish_folder(part, folder, manifest=manifest, card=dataset_card(manifest, campaigns))


def _manifest(
    session: Session, snapshot: Snapshot, part: Path, *, tally: Tally, digest: str, now: datetime
) -> SnapshotManifest:
    counts = {**tally.counts, "prompts": len(tally.prompts), "annotators": len(tally.annotators)}
    scope = Scope.of(snapshot)
    has_line = scope.line_id is not None and tally.completions > 0
    return SnapshotManifest(
        snapshot_id=str(snapshot.id),
        name=snapshot.name,
        created_at=now,
        policy=SnapshotPolicy.model_validate(snapshot.policy),
        scope=scope_labels(session, scope),
        as_of=snapshot.as_of,
        counts={name: counts.get(name, 0) for name in COUNTS},
        files=tally.files,
        rows_sha256=digest,
        parent=str(snapshot.parent_id) if snapshot.parent_id is not None else None,
        on_policy_share=tally.on_policy / tally.completions if has_line else None,
    )


def _finish_folder(part: Path, folder: Path, *, manifest: SnapshotManifest, card: str) -> None:
    """Add the card and, last, the manifest; then move the folder to its place."""
    from app.datasets.folder import file_entry, sync

    (part / CARD_FILE).write_text(card, encoding="utf-8")
    sync(part / CARD_FILE)
    files = {**manifest.files, CARD_FILE: file_entry(part / CARD_FILE)}
    write_json(part / MANIFEST_FILE, manifest.model_copy(update={"files": files}))
    passing(Step.SNAPSHOT_MANIFEST_WRITTEN)
    part.rename(folder)
    sync(folder.parent)
    passing(Step.SNAPSHOT_MOVED)


def _note_annotators(session_factory: SessionFactory, *, snapshot_id: int, user_ids: set[int]) -> None:
    """Record whose judgments the folder holds before it can be seen, so that it can be withdrawn on request."""
    if user_ids:
        rows = [{"snapshot_id": snapshot_id, "user_id": user_id} for user_id in sorted(user_ids)]
        with session_factory.begin() as session:
            session.execute(insert(SnapshotAnnotator).on_conflict_do_nothing(), rows)


def _refuse_another_installations(
    manifest: SnapshotManifest, folder: Path, *, snapshot_id: int, as_of: datetime
) -> None:
    if (manifest.snapshot_id, manifest.as_of) != (str(snapshot_id), as_of):
        raise Conflict(
            _(
                "%(folder)s holds a snapshot of another database (%(name)s, %(as_of)s). Move it away and freeze again.",
                folder=folder,
                name=manifest.name,
                as_of=f"{manifest.as_of:%Y-%m-%d %H:%M}",
            )
        )


def _mark_ready(
    session_factory: SessionFactory, *, snapshot_id: int, folder: Path, manifest: SnapshotManifest, now: datetime
) -> None:
    with session_factory.begin() as session:
        snapshot = session.get_one(Snapshot, snapshot_id, with_for_update=True)
        if snapshot.state is SnapshotState.WITHDRAWN:
            return
        snapshot.state = SnapshotState.READY
        snapshot.path = str(folder)
        snapshot.rows_sha256 = manifest.rows_sha256
        snapshot.counts = dict(manifest.counts)
        snapshot.manifest = manifest.model_dump(mode="json")
        snapshot.message = ""
        snapshot.frozen_at = now
        session.flush()
        passing(Step.SNAPSHOT_MARKING)
