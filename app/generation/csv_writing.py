"""CSV for people's spreadsheets: a cell that begins like a formula is made plain text."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file with a header, CR LF line ends and escaped cells."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows([escaped(cell) for cell in row] for row in rows)
    return out.getvalue()


def escaped(cell: object) -> object:
    """The cell, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_BEGINNINGS) else cell
