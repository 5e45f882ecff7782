"""Comparisons as a table (CSV, TSV): one a row, turned into lines of the house format, which says what will do.

Columns: `prompt`; `completion_1`, `completion_2` and so on, each with an optional `model_1` and so on; or `chosen` and
`rejected`, which is a judgment as well. Optional: `system`, `ranking`, `annotator`, `id`, `tags` (by semicolons).
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import orjson

from app.errors import Invalid
from app.generation.lines import csv_rows
from app.wording import gettext as _

TABLES = (".csv", ".tsv")
PLAIN = ("prompt", "system", "chosen", "rejected", "ranking", "annotator", "id", "tags")
_NUMBERED = re.compile(r"(completion|model)_([1-9]\d?)")
_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class Misread:
    """A row that could not be taken apart."""

    reason: str
    excerpt: str = ""


Line = tuple[int, bytes | Misread | None]


def house_lines(lines: Iterator[tuple[int, bytes | None]], *, filename: str) -> Iterator[Line]:
    """The lines of a file of comparisons as JSON, whether it is JSONL already or a table.

    The name's ending says which, else the first line does. Raises Invalid for a table whose header will not do.
    """
    first = next(((number, line) for number, line in lines if line is None or line.strip()), None)
    if first is None:
        return
    if not _is_table(filename, first[1] or b""):
        yield from chain([first], lines)
        return
    number, line = first
    delimiter, columns = _header((line or b"").decode(errors="replace"))
    for row in csv_rows(lines, delimiter=delimiter, after=number):
        if row.cells is None:
            yield row.number, Misread(row.problem)
            continue
        try:
            given = _comparison(dict(zip(columns, row.cells, strict=True)))
            yield row.number, orjson.dumps(given)
        except ValueError:
            reason = _("it has %(cells)s cells, the header %(columns)s", cells=len(row.cells), columns=len(columns))
            yield row.number, Misread(reason, delimiter.join(row.cells))
        except orjson.JSONEncodeError:
            yield row.number, Misread(_("the text is not UTF-8"))


def _is_table(filename: str, first_line: bytes) -> bool:
    name = filename.casefold().removesuffix(".gz")
    if name.endswith(TABLES):
        return True
    looks_like_one = not first_line.lstrip().startswith((b"{", b"[")) and b"prompt" in first_line.lower()
    return looks_like_one and not name.endswith((".jsonl", ".ndjson", ".json"))


def _header(text: str) -> tuple[str, list[str]]:
    delimiter = max(_DELIMITERS, key=text.count)
    columns = [cell.strip().casefold() for cell in next(csv.reader([text], delimiter=delimiter), [])]
    unknown = [name for name in columns if name not in PLAIN and _NUMBERED.fullmatch(name) is None]
    if "prompt" not in columns:
        raise Invalid(_("The first line must name the columns, and one of them must be “prompt”."))
    if unknown:
        known = ", ".join([*PLAIN, "completion_1, model_1 …"])
        raise Invalid(
            _("There is no column “%(name)s” here. The columns are: %(known)s.", name=unknown[0], known=known)
        )
    if len(set(columns)) < len(columns):
        raise Invalid(_("Two columns have the same name."))
    if not ({"chosen", "rejected"} <= set(columns) or {"completion_1", "completion_2"} <= set(columns)):
        raise Invalid(_("Name the completions: columns completion_1 and completion_2, or chosen and rejected."))
    return delimiter, columns


def _comparison(cells: dict[str, str]) -> dict[str, Any]:
    """A row as the house format has it; empty cells say nothing."""
    given = {name: cell for name, cell in cells.items() if cell.strip()}
    numbers = sorted(int(name.partition("_")[2]) for name in given if name.startswith("completion_"))
    completions = [_completion(given, number) for number in numbers]
    judgments: list[dict[str, Any]] = []
    who = {"annotator": given["annotator"]} if "annotator" in given else {}
    if "chosen" in given and "rejected" in given:
        completions += [{"text": given["chosen"]}, {"text": given["rejected"]}]
        judgments.append({**who, "ranking": f"{len(completions) - 1}>{len(completions)}"})
    elif "ranking" in given:
        judgments.append({**who, "ranking": given["ranking"].strip()})
    user = {"role": "user", "content": given.get("prompt", "")}
    system = [{"role": "system", "content": given["system"]}] if "system" in given else []
    told: dict[str, Any] = {"prompt": [*system, user], "completions": completions, "judgments": judgments}
    if "id" in given:
        told["id"] = given["id"].strip()
    if "tags" in given:
        told["tags"] = [tag.strip() for tag in given["tags"].split(";") if tag.strip()]
    return told


def _completion(given: dict[str, str], number: int) -> dict[str, str]:
    model = given.get(f"model_{number}")
    text = {"text": given[f"completion_{number}"]}
    return {**text, "model": model.strip()} if model else text
