"""A folder as a zip, made while it is sent: no temporary file, and never more than a piece of it in memory."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PIECE_BYTES = 256 * 1024
TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""Of every member, so that the same files give the same zip."""


class _Outbox:
    """A sink that a zip can be written to, and that is emptied as it fills."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do: pieces are taken, not pushed."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def zipped(folder: Path, *, root: str) -> Iterator[bytes]:
    """The pieces of a zip of the folder's files, under the name `root`; not compressed, Parquet already is."""
    outbox = _Outbox()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            member = zipfile.ZipInfo(f"{root}/{path.name}", TIMESTAMP)
            member.external_attr = 0o644 << 16
            member.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(member, "w") as target:
                yield from _copied(source, target, outbox)
            yield outbox.taken()
    yield outbox.taken()


def _copied(source: IO[bytes], target: IO[bytes], outbox: _Outbox) -> Iterator[bytes]:
    while piece := source.read(PIECE_BYTES):
        target.write(piece)
        yield outbox.taken()
