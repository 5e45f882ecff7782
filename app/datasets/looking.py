"""What the pages of snapshots show: values gathered from rows and files, ready for templates."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.datasets.models import Snapshot, SnapshotState
from app.datasets.scope import Scope, scope_name
from app.datasets.trl import SPLITS, trl_file_name
from app.settings import Settings
from trainer.contract.snapshot import CARD_FILE, MANIFEST_FILE, SnapshotManifest

MOST_CARD_BYTES = 200_000


@dataclass(frozen=True)
class Download:
    """A file derived from a snapshot. `pairs` is how many preference pairs it holds."""

    split: str
    pairs: int
    bytes: int


@dataclass(frozen=True)
class SnapshotRow:
    """A snapshot in a list."""

    snapshot: Snapshot
    whole_line: bool


@dataclass(frozen=True)
class SnapshotPage:
    """A snapshot on its page. `card` is the dataset card as Markdown; empty where the files are not there."""

    snapshot: Snapshot
    scope: str
    whole_line: bool
    manifest: SnapshotManifest | None
    bytes: int
    card: str
    downloads: list[Download]
    files_are_there: bool


def snapshot_rows(snapshots: list[Snapshot]) -> list[SnapshotRow]:
    """Snapshots as lists show them."""
    return [SnapshotRow(each, whole_line=each.campaign_id is None) for each in snapshots]


def snapshot_page(session: Session, settings: Settings, snapshot: Snapshot) -> SnapshotPage:
    """All that the page of a snapshot shows."""
    manifest = SnapshotManifest.model_validate(snapshot.manifest) if snapshot.manifest is not None else None
    folder = snapshot_folder(snapshot)
    return SnapshotPage(
        snapshot=snapshot,
        scope=scope_name(session, Scope.of(snapshot)),
        whole_line=snapshot.campaign_id is None,
        manifest=manifest,
        bytes=sum(entry.bytes for entry in manifest.files.values()) if manifest is not None else 0,
        card=_card(folder) if folder is not None else "",
        downloads=_downloads(settings, snapshot, manifest) if manifest is not None else [],
        files_are_there=folder is not None,
    )


def snapshot_folder(snapshot: Snapshot) -> Path | None:
    """Where a ready snapshot's files lie; None where they are gone or not yet there."""
    if snapshot.state is not SnapshotState.READY or snapshot.path is None:
        return None
    folder = Path(snapshot.path)
    return folder if (folder / MANIFEST_FILE).is_file() else None


def export_file(settings: Settings, snapshot: Snapshot, split: str) -> Path | None:
    """The TRL preference file of a split, if it is there."""
    if snapshot_folder(snapshot) is None or split not in SPLITS:
        return None
    path = exports_folder(settings, snapshot.id) / trl_file_name(split)
    return path if path.is_file() else None


def exports_folder(settings: Settings, snapshot_id: int) -> Path:
    """Where files derived from a snapshot lie: beside its folder, for they are no part of what is hashed."""
    return settings.snapshots_dir / f"{snapshot_id}-exports"


def _downloads(settings: Settings, snapshot: Snapshot, manifest: SnapshotManifest) -> list[Download]:
    paths = {split: export_file(settings, snapshot, split) for split in SPLITS}
    return [
        Download(split=split, pairs=manifest.counts.get(f"pairs_{split}", 0), bytes=path.stat().st_size)
        for split, path in paths.items()
        if path is not None
    ]


def _card(folder: Path) -> str:
    """The dataset card without the header that is meant for programs."""
    path = folder / CARD_FILE
    if not path.is_file() or path.stat().st_size > MOST_CARD_BYTES:
        return ""
    text = path.read_text(encoding="utf-8")
    _, header, body = text.partition("---\n")[2].partition("---\n")
    return (body if header else text).strip()
