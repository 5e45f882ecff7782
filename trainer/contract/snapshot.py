"""The snapshot folder: written by the app, read by the trainer and by researchers' own tools; the manifest last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from trainer.contract.base import FORMAT_VERSION, Contract

if TYPE_CHECKING:
    import pyarrow

JUDGMENTS_FILE = "judgments.parquet"
RANKINGS_TRAIN_FILE = "rankings.train.parquet"
RANKINGS_EVAL_FILE = "rankings.eval.parquet"
DEMONSTRATIONS_FILE = "demonstrations.parquet"
CARD_FILE = "README.md"
MANIFEST_FILE = "manifest.json"


ADDED_LATER = frozenset({"source", "spans"})
"""Columns that the rows of older snapshots lack."""


def _messages_type() -> pyarrow.DataType:
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _span_type() -> pyarrow.DataType:
    """An error span: code points of the completion's text from `start` up to `end`, and the words that stand there."""
    import pyarrow as pa

    return pa.struct([("start", pa.int32()), ("end", pa.int32()), ("category", pa.string()), ("text", pa.string())])


def rankings_schema() -> pyarrow.Schema:
    """Columns of `rankings.{train,eval}.parquet`: one row per ranking that training may use.

    `ranks` holds one int per completion (1 = best, ties equal). `strengths` holds one int per adjacent
    pair of tie groups, or is null. `ratings`, `flags` and `spans` are per completion, in the order of `completions`.
    `criterion` is null for the overall verdict. `source` is "judgment", or "correction" where a person wrote the better
    one of the two themselves (as the policy has it).
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("prompt", _messages_type()),
            ("completion_ids", pa.list_(pa.string())),
            ("completions", pa.list_(_messages_type())),
            ("model_versions", pa.list_(pa.string())),
            ("ranks", pa.list_(pa.int32())),
            ("strengths", pa.list_(pa.int32())),
            ("all_bad", pa.bool_()),
            ("ratings", pa.list_(pa.float64())),
            ("flags", pa.list_(pa.list_(pa.string()))),
            ("spans", pa.list_(pa.list_(_span_type()))),
            ("weight", pa.float64()),
            ("judgments", pa.int32()),
            ("agreement", pa.float64()),
            ("criterion", pa.string()),
            ("source", pa.string()),
        ]
    )


def judgments_schema() -> pyarrow.Schema:
    """Columns of `judgments.parquet`: one row per current judgment, lossless, annotators pseudonymised.

    `ranking` lists tie groups of completion ids, best first; it is null where only `all_bad` was given.
    `criteria` maps a criterion to its ranking, `ratings`, `flags` and `spans` a completion id to its own: JSON text.
    `rationale` is null unless the policy opted in (it is personal text). `picked` says how the completions were chosen
    of the samples drawn: "distinct", or "uncertain" where a reward model chose; null where they were not chosen here.
    """
    import pyarrow as pa

    stamp = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            ("judgment_id", pa.string()),
            ("comparison_id", pa.string()),
            ("campaign_id", pa.string()),
            ("campaign_revision", pa.int32()),
            ("prompt_id", pa.string()),
            ("split", pa.string()),
            ("prompt", _messages_type()),
            ("completion_ids", pa.list_(pa.string())),
            ("completions", pa.list_(_messages_type())),
            ("model_versions", pa.list_(pa.string())),
            ("annotator", pa.string()),
            ("shown_order", pa.list_(pa.string())),
            ("ranking", pa.list_(pa.list_(pa.string()))),
            ("all_bad", pa.bool_()),
            ("strengths", pa.list_(pa.int32())),
            ("criteria", pa.string()),
            ("ratings", pa.string()),
            ("flags", pa.string()),
            ("spans", pa.string()),
            ("rationale", pa.string()),
            ("confidence", pa.int32()),
            ("active_ms", pa.int64()),
            ("surplus", pa.bool_()),
            ("rejected", pa.bool_()),
            ("ui_version", pa.string()),
            ("judged_at", stamp),
            ("source", pa.string()),
            ("picked", pa.string()),
        ]
    )


def demonstrations_schema() -> pyarrow.Schema:
    """Columns of `demonstrations.parquet`: completions that people wrote or corrected.

    `corrects` is the completion that was corrected, null with its id where somebody wrote from nothing. `split` is the
    prompt's side; a demonstration on the held-out side is not to be trained on.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("prompt_id", pa.string()),
            ("split", pa.string()),
            ("prompt", _messages_type()),
            ("completion_id", pa.string()),
            ("completion", _messages_type()),
            ("corrects_id", pa.string()),
            ("corrects", _messages_type()),
            ("judgment_id", pa.string()),
            ("author", pa.string()),
            ("source", pa.string()),
            ("written_at", pa.timestamp("us", tz="UTC")),
        ]
    )


class SnapshotPolicy(Contract):
    """How judgments become training rows. Same policy and judgments: same rows, same hash."""

    aggregation: Literal["per_judgment"] = "per_judgment"
    """One row per judgment, each of weight 1/R where R is the comparison's redundancy."""
    include_surplus: bool = False
    include_rejected: bool = False
    """Whether judgments that a manager had set aside are taken all the same."""
    include_rationales: bool = False
    incomplete_comparisons: bool = True
    """Whether a comparison still short of its redundancy contributes the judgments that it has."""
    corrections_as_chosen: bool = False
    """Whether each correction makes a pair in which it is preferred to the completion that it corrects."""


class FileEntry(Contract):
    """One file of a snapshot, as the manifest lists it."""

    sha256: str
    bytes: int
    rows: int | None = None


class SnapshotManifest(Contract):
    """`manifest.json`, written last: a snapshot folder with a manifest is whole."""

    format_version: int = FORMAT_VERSION
    snapshot_id: str
    name: str
    created_at: datetime
    policy: SnapshotPolicy
    scope: dict[str, str]
    """What was frozen: `line` and, where one campaign alone was asked for, `campaign`."""
    as_of: datetime
    counts: dict[str, int]
    """judgments, surplus, rejected, rankings_train, rankings_eval, all_bad_only, prompts, annotators ..."""
    files: dict[str, FileEntry]
    rows_sha256: str
    """Hash of the canonical rows (`rows_digest`), independent of Parquet's encoding."""
    parent: str | None = None
    on_policy_share: float | None = None
    """Share of completions written by the line's current version when frozen; null without any."""


def rows_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 over rows as canonical JSON lines, in the order given; timestamps as ISO 8601.

    What came to the format later counts only where it says something, so that older rows hash as they ever did.
    """
    digest = hashlib.sha256()
    for each in rows:
        row = {name: value for name, value in each.items() if value is not None or name not in ADDED_LATER}
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_jsonable)
        digest.update(line.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _jsonable(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no canonical form")
