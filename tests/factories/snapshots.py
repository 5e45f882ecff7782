"""Snapshot and run folders that the trainer can read, written with the contract's schemas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.contract.files import file_sha256, weights_sha256, write_json
from trainer.contract.run import REQUEST_FILE, ModelRef, RunRequest, SnapshotRef
from trainer.contract.snapshot import (
    DEMONSTRATIONS_FILE,
    JUDGMENTS_FILE,
    MANIFEST_FILE,
    RANKINGS_EVAL_FILE,
    RANKINGS_TRAIN_FILE,
    FileEntry,
    SnapshotManifest,
    SnapshotPolicy,
    demonstrations_schema,
    judgments_schema,
    rankings_schema,
    rows_digest,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

Row = dict[str, Any]


def ranking_row(
    prompt: str | Sequence[Mapping[str, str]],
    completions: Sequence[str],
    *,
    ranks: Sequence[int] | None = None,
    prompt_id: str | None = None,
    all_bad: bool = False,
    weight: float = 1.0,
    criterion: str | None = None,
) -> Row:
    """One row of a rankings file; without `ranks` the completions are given best first."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
    prompt_id = prompt_id or f"prompt-{rows_digest(messages)[:12]}"
    return {
        "prompt_id": prompt_id,
        "prompt": messages,
        "completion_ids": [f"{prompt_id}-{number}" for number in range(len(completions))],
        "completions": [[{"role": "assistant", "content": text}] for text in completions],
        "model_versions": ["test-v0"] * len(completions),
        "ranks": list(ranks or range(1, len(completions) + 1)),
        "strengths": None,
        "all_bad": all_bad,
        "ratings": None,
        "flags": None,
        "spans": None,
        "weight": weight,
        "judgments": 1,
        "agreement": None,
        "criterion": criterion,
        "source": "judgment",
    }


def demonstration_row(prompt: str, text: str, *, split: str = "train", number: int = 0) -> Row:
    """One row of the demonstrations."""
    return {
        "prompt_id": f"prompt-{number}",
        "split": split,
        "prompt": [{"role": "user", "content": prompt}],
        "completion_id": f"written-{number}",
        "completion": [{"role": "assistant", "content": text}],
        "corrects_id": None,
        "corrects": None,
        "judgment_id": f"judgment-{number}",
        "author": "somebody",
        "source": "written",
        "written_at": NOW,
    }


def write_snapshot(
    folder: Path, *, train: Sequence[Row], held_out: Sequence[Row] = (), demonstrations: Sequence[Row] = ()
) -> SnapshotRef:
    """Write a whole snapshot folder of these rankings and demonstrations; what a run needs to name it."""
    folder.mkdir(parents=True)
    contents = {
        RANKINGS_TRAIN_FILE: pa.Table.from_pylist(list(train), schema=rankings_schema()),
        RANKINGS_EVAL_FILE: pa.Table.from_pylist(list(held_out), schema=rankings_schema()),
        JUDGMENTS_FILE: judgments_schema().empty_table(),
        DEMONSTRATIONS_FILE: pa.Table.from_pylist(list(demonstrations), schema=demonstrations_schema()),
    }
    for name, table in contents.items():
        pq.write_table(table, folder / name)
    digest = rows_digest(contents[RANKINGS_TRAIN_FILE].to_pylist() + contents[RANKINGS_EVAL_FILE].to_pylist())
    manifest = SnapshotManifest(
        snapshot_id=folder.name,
        name=folder.name,
        created_at=NOW,
        policy=SnapshotPolicy(),
        scope={"line": "test"},
        as_of=NOW,
        counts={"rankings_train": len(train), "rankings_eval": len(held_out)},
        files={name: file_entry(folder / name, rows=table.num_rows) for name, table in contents.items()},
        rows_sha256=digest,
    )
    write_json(folder / MANIFEST_FILE, manifest)
    return SnapshotRef(path=str(folder), rows_sha256=digest)


def file_entry(path: Path, *, rows: int) -> FileEntry:
    """How a manifest lists a file."""
    return FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size, rows=rows)


def model_ref(folder: Path) -> ModelRef:
    """A model folder as a request names it."""
    return ModelRef(name=folder.name, path=str(folder), sha256=weights_sha256(folder))


def write_run(folder: Path, *, snapshot: SnapshotRef, model: Path, **request: Any) -> RunRequest:
    """Write a run folder that starts from `model` with it as reference; `request` sets further fields."""
    folder.mkdir(parents=True)
    reference = model_ref(model)
    named = {"base_model": reference, "start": reference, "reference": reference}
    content = RunRequest(
        run_id=folder.name, version_name=f"{folder.name}-v1", snapshot=snapshot, **{**named, **request}
    )
    write_json(folder / REQUEST_FILE, content)
    return content
