"""Reading a snapshot folder: what is whole and asked for is read, everything else is refused in words."""

import json
from pathlib import Path

import pytest

from tests.factories.snapshots import file_entry, ranking_row, write_snapshot
from trainer.contract.files import read_json, write_json
from trainer.contract.snapshot import MANIFEST_FILE, RANKINGS_TRAIN_FILE, SnapshotManifest
from trainer.errors import SnapshotError
from trainer.snapshot import read_snapshot

TRAIN = [ranking_row("q1", ["a", "b", "c"], ranks=[1, 2, 2]), ranking_row("q2", ["d", "e"], weight=0.5)]
HELD_OUT = [ranking_row("q3", ["f", "g"])]


def test_a_snapshot_is_read_as_it_was_written(tmp_path: Path) -> None:
    reference = write_snapshot(tmp_path / "s", train=TRAIN, held_out=HELD_OUT)
    snapshot = read_snapshot(tmp_path / "s", rows_sha256=reference.rows_sha256)
    assert [ranking.ranks for ranking in snapshot.train] == [(1, 2, 2), (1, 2)]
    assert snapshot.train[1].weight == 0.5
    assert snapshot.train[0].prompt[0].content == "q1"
    assert [message.content for turns in snapshot.held_out[0].completions for message in turns] == ["f", "g"]


def test_another_snapshot_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "s", train=TRAIN)
    with pytest.raises(SnapshotError, match=r"another snapshot.*freeze a new one"):
        read_snapshot(tmp_path / "s", rows_sha256="0" * 64)


def test_a_file_changed_after_freezing_is_refused(tmp_path: Path) -> None:
    reference = write_snapshot(tmp_path / "s", train=TRAIN)
    write_snapshot(tmp_path / "other", train=TRAIN[:1])
    (tmp_path / "other" / RANKINGS_TRAIN_FILE).replace(tmp_path / "s" / RANKINGS_TRAIN_FILE)
    with pytest.raises(SnapshotError, match="changed after the snapshot was frozen"):
        read_snapshot(tmp_path / "s", rows_sha256=reference.rows_sha256)


def test_rows_that_do_not_hash_to_the_manifest_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    reference = write_snapshot(folder, train=TRAIN)
    write_snapshot(tmp_path / "other", train=TRAIN[:1])
    (tmp_path / "other" / RANKINGS_TRAIN_FILE).replace(folder / RANKINGS_TRAIN_FILE)
    manifest = read_json(folder / MANIFEST_FILE, SnapshotManifest)
    files = {**manifest.files, RANKINGS_TRAIN_FILE: file_entry(folder / RANKINGS_TRAIN_FILE, rows=1)}
    write_json(folder / MANIFEST_FILE, manifest.model_copy(update={"files": files}))
    with pytest.raises(SnapshotError, match="changed after it was frozen"):
        read_snapshot(folder, rows_sha256=reference.rows_sha256)


def test_a_newer_format_is_refused_with_the_advice_to_update(tmp_path: Path) -> None:
    reference = write_snapshot(tmp_path / "s", train=TRAIN)
    path = tmp_path / "s" / MANIFEST_FILE
    content = json.loads(path.read_text()) | {"format_version": 99, "unheard_of": True}
    path.write_text(json.dumps(content))
    with pytest.raises(SnapshotError, match=r"format version 99.*Update Palate"):
        read_snapshot(tmp_path / "s", rows_sha256=reference.rows_sha256)


def test_a_missing_folder_and_an_unfinished_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="There is no snapshot folder"):
        read_snapshot(tmp_path / "s", rows_sha256="")
    (tmp_path / "s").mkdir()
    with pytest.raises(SnapshotError, match="unfinished"):
        read_snapshot(tmp_path / "s", rows_sha256="")
