"""Reading a frozen snapshot: is it whole, is it the one that was asked for, and what rankings does it hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from trainer.contract.base import FORMAT_VERSION, Message
from trainer.contract.files import file_sha256
from trainer.contract.snapshot import (
    DEMONSTRATIONS_FILE,
    MANIFEST_FILE,
    RANKINGS_EVAL_FILE,
    RANKINGS_TRAIN_FILE,
    SnapshotManifest,
    demonstrations_schema,
    rankings_schema,
    rows_digest,
)
from trainer.errors import SnapshotError


@dataclass(frozen=True)
class Ranking:
    """One verdict on the completions of one prompt: `ranks` has 1 for the best, ties equal.

    `strengths` has one level per step from one rank to the next, 1 for barely better. A completion is a list of
    messages, as in the snapshot. `criterion` is None for the overall verdict.
    """

    prompt_id: str
    prompt: tuple[Message, ...]
    completion_ids: tuple[str, ...]
    completions: tuple[tuple[Message, ...], ...]
    ranks: tuple[int, ...]
    strengths: tuple[int, ...] | None
    all_bad: bool
    weight: float
    criterion: str | None
    judgments: int = 1
    """How many judged these completions, this one included; `agreement` is with the others, None where nobody did."""
    agreement: float | None = None


@dataclass(frozen=True)
class Demonstration:
    """A completion that a person wrote for a prompt."""

    prompt_id: str
    prompt: tuple[Message, ...]
    completion_id: str
    text: str


@dataclass(frozen=True)
class Snapshot:
    """The verified content of a snapshot folder, as far as training reads it."""

    manifest: SnapshotManifest
    train: list[Ranking]
    held_out: list[Ranking]
    demonstrations: list[Demonstration]
    """On training prompts."""
    held_out_demonstrations: list[Demonstration]


def read_snapshot(folder: Path, *, rows_sha256: str) -> Snapshot:
    """Read a snapshot folder whose rows hash to `rows_sha256`.

    Raises SnapshotError where the folder is missing, unfinished, newer than this code, damaged, or another
    snapshot than the one asked for.
    """
    manifest = _read_manifest(folder)
    train = _read_rows(folder, manifest, RANKINGS_TRAIN_FILE, rankings_schema())
    held_out = _read_rows(folder, manifest, RANKINGS_EVAL_FILE, rankings_schema())
    found = rows_digest(train + held_out)
    if not found == manifest.rows_sha256 == rows_sha256:
        raise SnapshotError(
            f"The rows of the snapshot in {folder} hash to {found[:12]}…, its manifest says "
            f"{manifest.rows_sha256[:12]}…, the run asked for {rows_sha256[:12]}…. The folder was changed after it "
            "was frozen, or is another snapshot: restore it, or freeze a new one and start a new run."
        )
    demonstrations = _demonstrations(folder, manifest)
    return Snapshot(
        manifest=manifest,
        train=[_ranking(row, RANKINGS_TRAIN_FILE, number) for number, row in enumerate(train)],
        held_out=[_ranking(row, RANKINGS_EVAL_FILE, number) for number, row in enumerate(held_out)],
        demonstrations=[each for split, each in demonstrations if split == "train"],
        held_out_demonstrations=[each for split, each in demonstrations if split == "eval"],
    )


def _demonstrations(folder: Path, manifest: SnapshotManifest) -> list[tuple[str | None, Demonstration]]:
    """Each with its prompt's side; none in a snapshot of before there were any."""
    if DEMONSTRATIONS_FILE not in manifest.files:
        return []
    rows = _read_rows(folder, manifest, DEMONSTRATIONS_FILE, demonstrations_schema())
    return [
        (
            row["split"],
            Demonstration(
                prompt_id=row["prompt_id"],
                prompt=_messages(row["prompt"]),
                completion_id=row["completion_id"],
                text="".join(message["content"] for message in row["completion"]),
            ),
        )
        for row in rows
    ]


def _read_manifest(folder: Path) -> SnapshotManifest:
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        raise SnapshotError(f"There is no snapshot folder at {folder}. Restore it, or freeze a new snapshot.")
    if not path.is_file():
        raise SnapshotError(f"The snapshot in {folder} has no {MANIFEST_FILE}, so it is unfinished. Freeze it again.")
    try:
        refuse_newer_format(json.loads(path.read_bytes()), what=f"The snapshot in {folder}")
        return SnapshotManifest.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise SnapshotError(f"{path} cannot be read ({_first_fault(error)}). Freeze the snapshot again.") from error


def refuse_newer_format(content: Any, *, what: str) -> None:
    """Raise SnapshotError where a file says that it was written in a newer format than this code knows."""
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise SnapshotError(
            f"{what} has format version {version}; this trainer reads up to {FORMAT_VERSION}. Update Palate."
        )


def _read_rows(folder: Path, manifest: SnapshotManifest, name: str, schema: pa.Schema) -> list[dict[str, Any]]:
    path = folder / name
    entry = manifest.files.get(name)
    if entry is None or not path.is_file():
        raise SnapshotError(f"The snapshot in {folder} lacks {name}. Restore it, or freeze a new snapshot.")
    if file_sha256(path) != entry.sha256:
        raise SnapshotError(f"{path} was changed after the snapshot was frozen. Restore it, or freeze a new snapshot.")
    try:
        rows: list[dict[str, Any]] = pq.read_table(path, schema=schema).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise SnapshotError(f"{path} cannot be read: {error}. Freeze the snapshot again.") from error
    return rows


def _ranking(row: Mapping[str, Any], name: str, number: int) -> Ranking:
    try:
        ranking = Ranking(
            prompt_id=row["prompt_id"],
            prompt=_messages(row["prompt"]),
            completion_ids=tuple(row["completion_ids"]),
            completions=tuple(_messages(completion) for completion in row["completions"]),
            ranks=tuple(row["ranks"]),
            strengths=None if row["strengths"] is None else tuple(row["strengths"]),
            all_bad=bool(row["all_bad"]),
            weight=float(row["weight"]),
            criterion=row["criterion"],
            judgments=row["judgments"] or 1,
            agreement=row["agreement"],
        )
    except (TypeError, ValidationError) as error:
        raise SnapshotError(f"Row {number + 1} of {name} is not a ranking: {_first_fault(error)}") from error
    if not len(ranking.completion_ids) == len(ranking.completions) == len(ranking.ranks):
        raise SnapshotError(f"Row {number + 1} of {name} has completions and ranks of different number.")
    return ranking


def _messages(values: list[dict[str, Any]]) -> tuple[Message, ...]:
    return tuple(Message(**value) for value in values)


def _first_fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
    return str(error)
