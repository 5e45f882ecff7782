"""Preference pairs as TRL reads them: JSON lines with an explicit prompt, in conversational form."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from app.datasets.rows import preferred_pairs
from trainer.contract.snapshot import RANKINGS_EVAL_FILE, RANKINGS_TRAIN_FILE

SPLITS = {"train": RANKINGS_TRAIN_FILE, "eval": RANKINGS_EVAL_FILE}


def trl_file_name(split: str) -> str:
    """What the file of a split is called."""
    return f"trl-preference.{split}.jsonl"


def write_trl_preference(snapshot: Path, exports: Path) -> dict[str, int]:
    """Derive the files of both splits from a snapshot folder; the number of pairs in each.

    The same snapshot gives the same bytes. Each file appears whole or not at all.
    """
    exports.mkdir(parents=True, exist_ok=True)
    return {
        split: _write_lines(exports / trl_file_name(split), preference_lines(snapshot / name))
        for split, name in SPLITS.items()
    }


def preference_lines(rankings: Path) -> Iterator[bytes]:
    """One line per pair of completions that an overall ranking sets apart; ties and all-bad make none."""
    from app.datasets.folder import rows_of

    columns = ["prompt", "completions", "ranks", "criterion"]
    for row in rows_of(rankings, columns=columns):
        if row["criterion"] is None:
            for better, worse in preferred_pairs(row["ranks"]):
                yield _line(row, better, worse)


def _line(row: dict[str, Any], better: int, worse: int) -> bytes:
    pair = {"prompt": row["prompt"], "chosen": row["completions"][better], "rejected": row["completions"][worse]}
    return orjson.dumps(pair, option=orjson.OPT_APPEND_NEWLINE)


def _write_lines(path: Path, lines: Iterator[bytes]) -> int:
    part = path.with_name(f".{path.name}.part")
    written = 0
    with part.open("wb") as file:
        for line in lines:
            file.write(line)
            written += 1
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return written
