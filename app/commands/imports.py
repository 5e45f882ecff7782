"""What the two imports say on the terminal: how far they are, what they counted, what they passed over."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from app.commands.surroundings import console, counted
from app.errors import DomainError, NotFound
from app.generation.models import Import

SHOWN_REJECTIONS = 10

CampaignOption = Annotated[str, typer.Option("--campaign", help="Number or exact name of the campaign.")]


def require_file(path: Path) -> None:
    """Raise NotFound, with what to do, where no file can be read at `path`; before anything is opened or recorded."""
    if path.is_dir():
        raise NotFound(f"{path} is a folder. Name the file in it to import.")
    if not path.is_file():
        raise NotFound(f"There is no file {path}. Check the path; relative ones start at {Path.cwd()}.")


def with_stored_hint(error: DomainError, *, campaign: str) -> DomainError:
    """The same refusal, with a word on what a second try does."""
    hint = f"What was read before that is in {campaign}; importing the mended file again adds only what is missing."
    return type(error)(f"{error.message} {hint}")


def print_outcome(record: Import, *, noun: str) -> None:
    """Print the counts of a finished import, and the first lines that it passed over with their reasons."""
    counts = record.counts
    added, duplicates, rejected = (int(counts.get(name, 0)) for name in ("added", "duplicates", "rejected"))
    said = f"{counted(added, noun)} added, {counted(duplicates, 'duplicate')}, {counted(rejected, 'line')} rejected."
    console.print(said, highlight=False)
    if not record.rejections:
        return
    table = Table("Line", "Reason", "Begins with", title="Rejected lines", title_justify="left")
    for rejection in record.rejections[:SHOWN_REJECTIONS]:
        cells = (str(rejection.get(name, "")) for name in ("line", "reason", "excerpt"))
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)
    if rejected > SHOWN_REJECTIONS:
        console.print(f"… and {rejected - SHOWN_REJECTIONS:,} more; the campaign's page lists them.", style="dim")
