"""Reading a file of lines, plain or gzip, in constant memory and within limits.

Nothing here ever holds more than one line: files may be larger than memory, and a small gzip file may unpack to
a very large one.
"""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from typing import BinaryIO, cast

from app.errors import Invalid
from app.wording import gettext as _

LONGEST_LINE = 2**20
"""Bytes; a longer line is reported as such and passed over."""

MOST_BYTES = 4 * 2**30
"""Bytes that a file may unpack to, unless a caller says otherwise."""

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Row:
    """One record of a CSV file: the line it starts on, and its cells, or None where a line was too long to take."""

    number: int
    cells: list[str] | None
    problem: str = ""


def numbered_lines(
    file: BufferedReader, *, most_bytes: int = MOST_BYTES, longest_line: int = LONGEST_LINE
) -> Iterator[tuple[int, bytes | None]]:
    """The lines of a file with their numbers from 1, line ends included; None for one that is too long.

    Raises Invalid where the file unpacks to more than `most_bytes`, is damaged gzip, or is UTF-16.
    """
    read = number = 0
    with _unpacked(file) as content:
        while line := content.readline(longest_line + 1):
            number, read = number + 1, read + len(line)
            if number == 1:
                _refuse_utf_16(line)
                line = line.removeprefix(BYTE_ORDER_MARK)
            is_too_long = len(line) > longest_line
            while is_too_long and not line.endswith(b"\n") and (line := content.readline(longest_line)):
                read += len(line)
                _refuse_oversize(read, most_bytes)
            _refuse_oversize(read, most_bytes)
            yield number, None if is_too_long else line


def csv_rows(lines: Iterator[tuple[int, bytes | None]], *, delimiter: str, after: int = 0) -> Iterator[Row]:
    """The records of a CSV file; a quoted cell may run over several lines, blank lines are passed over.

    `after` is the number of the last line already taken (the header's). Bytes that are not UTF-8 arrive as lone
    surrogates, for the caller to report.
    """
    feed = _Feed(lines, number=after)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        start, feed.is_too_long = feed.number + 1, False
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(start, None, _("not valid CSV: %(error)s", error=error))
            continue
        if feed.is_too_long:
            yield Row(start, None, _("longer than a line may be"))
        elif any(cell.strip() for cell in cells):
            yield Row(start, cells)


class _Feed:
    """Lines as text for the csv module, counted on the way."""

    def __init__(self, lines: Iterator[tuple[int, bytes | None]], *, number: int) -> None:
        self.lines = lines
        self.number = number
        self.is_too_long = False

    def __iter__(self) -> Iterator[str]:
        """The csv module asks for an iterator."""
        return self

    def __next__(self) -> str:
        """The next line, an empty one standing for one that is too long."""
        self.number, line = next(self.lines)
        if line is None:
            self.is_too_long = True
            return "\n"
        return line.decode("utf-8", "surrogateescape")


def _refuse_oversize(read: int, most_bytes: int) -> None:
    if read > most_bytes:
        raise Invalid(
            _(
                "The file unpacks to more than %(most)s MB. What came before that has been loaded; "
                "split the file and import the rest.",
                most=f"{most_bytes // 2**20:,}",
            )
        )


def _refuse_utf_16(line: bytes) -> None:
    if line.startswith(UTF_16_MARKS):
        raise Invalid(_("The file is UTF-16 text. Save it as UTF-8 and import it again."))


@contextmanager
def _unpacked(file: BufferedReader) -> Iterator[BinaryIO]:
    if file.peek(2)[:2] != GZIP_MAGIC:
        yield file
        return
    try:
        with gzip.GzipFile(fileobj=file) as content:
            yield cast(BinaryIO, content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Invalid(_("The gzip file is damaged or cut short. What came before that has been loaded.")) from error
