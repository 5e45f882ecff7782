"""A whole file of prompts, line by line: each a draft that may be stored, or a rejection that says why not."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from io import BufferedReader
from itertools import chain
from typing import Any

from app.errors import Invalid
from app.generation.lines import MOST_BYTES, csv_rows, numbered_lines
from app.generation.prompt_lines import BadLine, PromptDraft, draft_from_cells, draft_from_json, read_csv_header
from app.wording import gettext as _
from app.wording import mark as N_

LONGEST_EXCERPT = 160
JSONL_ENDINGS = (".jsonl", ".ndjson", ".json")
CSV_ENDINGS = (".csv", ".tsv")
OTHER_KINDS = {
    b"PAR1": N_("This is a Parquet file. Save it as JSONL or CSV and import that."),
    b"PK\x03\x04": N_("This is a zip or spreadsheet file. Save it as CSV or JSONL and import that."),
    b"[": N_("This is one JSON array. Write one object a line (JSONL) and import that."),
}

Lines = Iterator[tuple[int, bytes | None]]


@dataclass(frozen=True)
class Rejection:
    """A line that was not taken in: its number from 1, why, and how it begins."""

    line: int
    reason: str
    excerpt: str

    def as_json(self) -> dict[str, Any]:
        """The rejection as the import keeps it."""
        return asdict(self)


def read_prompts(
    file: BufferedReader, *, filename: str, most_bytes: int = MOST_BYTES
) -> Iterator[PromptDraft | Rejection]:
    """Every line that is not blank, as a draft or a rejection, in constant memory.

    The name's ending says whether it is JSONL or CSV, else the first line does. Raises Invalid where the file as a
    whole cannot be read (on); what came before that has been yielded.
    """
    lines = numbered_lines(file, most_bytes=most_bytes)
    first = next(((number, line) for number, line in lines if line is None or line.strip()), None)
    if first is None:
        raise Invalid(_("The file is empty."))
    if first[1] is not None:
        _refuse_other_kinds(first[1])
    if _is_csv(filename, first[1] or b""):
        yield from _from_csv(first, lines)
    else:
        yield from _from_jsonl(chain([first], lines))


def _from_jsonl(lines: Lines) -> Iterator[PromptDraft | Rejection]:
    for number, line in lines:
        if line is None:
            yield Rejection(number, _("longer than a line may be"), "")
            continue
        if not (content := line.strip()):
            continue
        try:
            yield draft_from_json(content)
        except BadLine as problem:
            yield Rejection(number, str(problem), _excerpt(content.decode(errors="replace")))


def _from_csv(first: tuple[int, bytes | None], lines: Lines) -> Iterator[PromptDraft | Rejection]:
    number, line = first
    try:
        header = read_csv_header((line or b"").decode(errors="replace"))
    except BadLine as problem:
        raise Invalid(_("This CSV file cannot be read: %(problem)s.", problem=problem)) from problem
    for row in csv_rows(lines, delimiter=header.delimiter, after=number):
        if row.cells is None:
            yield Rejection(row.number, row.problem, "")
            continue
        try:
            yield draft_from_cells(header, row.cells)
        except BadLine as problem:
            yield Rejection(row.number, str(problem), _excerpt(header.delimiter.join(row.cells)))


def _is_csv(filename: str, first_line: bytes) -> bool:
    name = filename.casefold().removesuffix(".gz")
    if name.endswith(JSONL_ENDINGS):
        return False
    if name.endswith(CSV_ENDINGS):
        return True
    try:
        draft_from_json(first_line.strip())
    except BadLine:
        return not first_line.lstrip().startswith(b"{")
    return False


def _refuse_other_kinds(first_line: bytes) -> None:
    for beginning, message in OTHER_KINDS.items():
        if first_line.lstrip().startswith(beginning):
            raise Invalid(_(message))


def _excerpt(text: str) -> str:
    """How a line begins, printable and storable."""
    shown = text[:LONGEST_EXCERPT].encode(errors="replace").decode().replace("\0", "�")
    return shown + "…" if len(text) > LONGEST_EXCERPT else shown
