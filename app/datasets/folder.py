"""Writing the files of a snapshot folder (trainer/contract/snapshot.py, docs/formats.md). For the worker alone."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from trainer.contract.files import file_sha256
from trainer.contract.snapshot import FileEntry

ROWS_PER_GROUP = 5000


class RowsFile:
    """A Parquet file that rows are appended to; never more than one row group of them is in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self._schema = schema
        self._pending: list[dict[str, Any]] = []
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")

    def append(self, row: dict[str, Any]) -> None:
        """Add one row; raises pyarrow.ArrowException where it does not fit the schema."""
        self._pending.append(row)
        self.rows += 1
        if len(self._pending) >= ROWS_PER_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is pending and the footer; the file is on disk afterwards."""
        if self._pending:
            self._flush()
        self._writer.close()
        sync(self.path)

    def abandon(self) -> None:
        """Let go of an unfinished file."""
        self._writer.close()

    def entry(self) -> FileEntry:
        """The file as the manifest lists it."""
        return file_entry(self.path, rows=self.rows)

    def _flush(self) -> None:
        self._writer.write_batch(pa.RecordBatch.from_pylist(self._pending, schema=self._schema))
        self._pending = []


def rows_of(path: Path, *, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file in order, a batch at a time in memory."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1000, columns=columns):
            yield from batch.to_pylist()


def file_entry(path: Path, *, rows: int | None = None) -> FileEntry:
    """A file as the manifest lists it."""
    return FileEntry(sha256=file_sha256(path), bytes=path.stat().st_size, rows=rows)


def sync(path: Path) -> None:
    """Put a file or folder on disk for good, so that a later rename cannot outlive its content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
