"""The rows of a snapshot laid out for looking at: by the worker once, so that pages need neither Parquet nor memory.

Beside the snapshot's folder, for it is no part of what is hashed and can be made again at any time. Per file:

- `<name>.rows`: chunks of CHUNK rows, each compressed JSON, one after the other;
- `<name>.starts`: where each chunk starts, 8 bytes each, and where the last one ends;
- `<name>.facts`: one byte per row, by which rows are filtered without reading them.
"""

import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from app.datasets.rows import preferred_pairs
from trainer.contract.snapshot import DEMONSTRATIONS_FILE, JUDGMENTS_FILE, RANKINGS_EVAL_FILE, RANKINGS_TRAIN_FILE

CHUNK = 20
"""Rows of a chunk, and of a page."""
BLOCK = 64 * 1024
FOLDER = "rows"
FAILURE = ".rows.failed"


class RowsOf(StrEnum):
    """Which file of a snapshot is looked at, as addresses say it."""

    RANKINGS_TRAIN = "rankings.train"
    RANKINGS_EVAL = "rankings.eval"
    JUDGMENTS = "judgments"
    DEMONSTRATIONS = "demonstrations"


FILES = {
    RowsOf.RANKINGS_TRAIN: RANKINGS_TRAIN_FILE,
    RowsOf.RANKINGS_EVAL: RANKINGS_EVAL_FILE,
    RowsOf.JUDGMENTS: JUDGMENTS_FILE,
    RowsOf.DEMONSTRATIONS: DEMONSTRATIONS_FILE,
}
_SPLITS = {"train": 1, "eval": 2, "neither": 0}
_VERDICTS = {"decided": 0, "tie": 1, "all_bad": 2}
_ONLY = {"surplus": 16, "rejected": 32, "imported": 64, "criterion": 128}


@dataclass(frozen=True)
class RowFilter:
    """Which rows to show; blank parts do not narrow, and unknown words count as blank."""

    split: str = ""
    verdict: str = ""
    only: str = ""

    def table(self) -> bytes | None:
        """Of each of the 256 possible facts, 1 where it is meant; None where all are."""
        tests = []
        if self.split in _SPLITS:
            tests.append((0b11, _SPLITS[self.split]))
        if self.verdict in _VERDICTS:
            tests.append((0b1100, _VERDICTS[self.verdict] << 2))
        if self.only in _ONLY:
            tests.append((_ONLY[self.only], _ONLY[self.only]))
        if not tests:
            return None
        return bytes(all(fact & mask == value for mask, value in tests) for fact in range(256))


@dataclass(frozen=True)
class RowPage:
    """One page of rows, from 1; `numbers` are their places in the file, from 1; `total` counts all that are meant."""

    number: int
    rows: list[dict[str, Any]]
    numbers: list[int]
    total: int

    @property
    def last_number(self) -> int:
        """The number of the last page; 1 where there are no rows."""
        return max(1, -(-self.total // CHUNK))


# --- Laying out, by the worker


def lay_out_rows(snapshot: Path, exports: Path) -> None:
    """Write the rows of all files; they appear whole, by one rename. Laid out already, they stay as they are."""
    if is_laid_out(exports):
        return
    part = exports / f".{FOLDER}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for which, name in FILES.items():
        _lay_out(snapshot / name, part, which)
    part.rename(exports / FOLDER)


def is_laid_out(exports: Path) -> bool:
    """Whether pages can be read."""
    return (exports / FOLDER).is_dir()


def note_failure(exports: Path) -> None:
    """Remember that the rows could not be laid out, until that is asked again."""
    exports.mkdir(parents=True, exist_ok=True)
    (exports / FAILURE).touch()


def forget_failure(exports: Path) -> None:
    """Let it be tried again."""
    (exports / FAILURE).unlink(missing_ok=True)


def has_failed(exports: Path) -> bool:
    """Whether the rows could not be laid out when that was last tried."""
    return (exports / FAILURE).exists()


def _lay_out(parquet: Path, folder: Path, which: RowsOf) -> None:
    from app.datasets.folder import rows_of

    at, chunk = 0, []
    with (
        (folder / f"{which}.rows").open("wb") as rows,
        (folder / f"{which}.starts").open("wb") as starts,
        (folder / f"{which}.facts").open("wb") as facts,
    ):
        starts.write(struct.pack("<Q", 0))
        for row in rows_of(parquet):
            facts.write(bytes([facts_of(row, which)]))
            chunk.append(row)
            if len(chunk) == CHUNK:
                at += rows.write(_packed(chunk))
                starts.write(struct.pack("<Q", at))
                chunk = []
        if chunk:
            at += rows.write(_packed(chunk))
            starts.write(struct.pack("<Q", at))


def _packed(rows: list[dict[str, Any]]) -> bytes:
    return zlib.compress(orjson.dumps(rows), 6)


def facts_of(row: dict[str, Any], which: RowsOf) -> int:
    """What rows are filtered by, in one byte: side and verdict, two bits each, and four flags."""
    if which is RowsOf.DEMONSTRATIONS:
        return 0
    side = row["split"] or "neither" if which is RowsOf.JUDGMENTS else which.value.rpartition(".")[2]
    facts = _SPLITS[side] | _VERDICTS[verdict_of(row)] << 2
    flagged = {
        "surplus": row.get("surplus"),
        "rejected": row.get("rejected"),
        "imported": row.get("source") == "import",
        "criterion": row.get("criterion") is not None,
    }
    return facts | sum(_ONLY[name] for name, holds in flagged.items() if holds)


def verdict_of(row: dict[str, Any]) -> str:
    """Whether a row prefers something, prefers nothing, or only says that all are bad."""
    ranking = row.get("ranking")
    decided = len(ranking or []) > 1 if "ranking" in row else bool(preferred_pairs(row["ranks"]))
    if decided:
        return "decided"
    return "all_bad" if row["all_bad"] else "tie"


# --- Reading, by the pages


def read_page(exports: Path, which: RowsOf, *, wanted: RowFilter, page: int) -> RowPage:
    """One page of the rows that a filter means; a page beyond the last is the last. Reads no more than it shows."""
    folder = exports / FOLDER
    table = wanted.table()
    total = _count(folder / f"{which}.facts", table)
    number = min(max(1, page), max(1, -(-total // CHUNK)))
    places = _places(folder / f"{which}.facts", table, skip=(number - 1) * CHUNK)
    return RowPage(number, _rows(folder, which, places), [place + 1 for place in places], total)


def _count(facts: Path, table: bytes | None) -> int:
    if table is None:
        return facts.stat().st_size
    return sum(block.translate(table).count(1) for block in _blocks(facts))


def _places(facts: Path, table: bytes | None, *, skip: int) -> list[int]:
    """The places, from 0, of the rows after the first `skip` that are meant."""
    if table is None:
        return list(range(skip, min(skip + CHUNK, facts.stat().st_size)))
    found: list[int] = []
    start = 0
    for block in _blocks(facts):
        meant = block.translate(table)
        here = meant.count(1)
        if skip >= here:
            skip -= here
        else:
            at = meant.find(1)
            while at >= 0 and len(found) < CHUNK:
                if skip:
                    skip -= 1
                else:
                    found.append(start + at)
                at = meant.find(1, at + 1)
        if len(found) == CHUNK:
            break
        start += len(block)
    return found


def _blocks(facts: Path) -> Iterator[bytes]:
    with facts.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def _rows(folder: Path, which: RowsOf, places: list[int]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    chunks: dict[int, list[dict[str, Any]]] = {}
    with (folder / f"{which}.rows").open("rb") as file, (folder / f"{which}.starts").open("rb") as starts:
        for place in places:
            chunk, within = divmod(place, CHUNK)
            if chunk not in chunks:
                starts.seek(8 * chunk)
                begin, end = struct.unpack("<QQ", starts.read(16))
                file.seek(begin, os.SEEK_SET)
                chunks = {chunk: orjson.loads(zlib.decompress(file.read(end - begin)))}
            rows.append(chunks[chunk][within])
    return rows
