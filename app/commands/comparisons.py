"""`palate comparisons`: take comparisons in and out, with their judgments."""

import gzip
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, cast

import typer
from rich.markup import escape
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.clock import utc_now
from app.commands.imports import CampaignOption, print_outcome, require_file, with_stored_hint
from app.commands.surroundings import command_database, console, counted, named_campaign, progress_bar, share_bar
from app.comparisons.models import Comparison, ComparisonKind, ComparisonState
from app.datasets.service.comparison_import import Counts
from app.datasets.service.comparison_import import import_comparisons as take_in
from app.datasets.service.house_export import export_house_jsonl
from app.errors import Invalid, NotFound
from app.pseudonyms import Pseudonyms

cli = typer.Typer(help="Take comparisons in and out, with their judgments.", no_args_is_help=True)


@cli.command("import")
def import_comparisons(
    file: Annotated[Path, typer.Argument(help="House JSONL (docs/formats.md); may be gzipped.")],
    campaign: CampaignOption,
) -> None:
    """Add the comparisons of a file to a campaign. Importing a file again adds nothing twice."""
    require_file(file)
    with command_database() as (_, sessions):
        with sessions.begin() as session:
            target = named_campaign(session, campaign)
        with share_bar() as bar:
            task = bar.add_task(f"Importing {escape(file.name)}", total=1.0)

            def show(counts: Counts) -> None:
                said = f"{counted(counts['added'], 'comparison')} added"
                bar.update(task, completed=counts["share_read"], description=said)

            try:
                record = take_in(sessions, campaign_id=target.id, path=file, by_id=None, clock=utc_now, progress=show)
            except Invalid as error:
                raise with_stored_hint(error, campaign=target.name) from error
    judgments, prompts = (int(record.counts.get(name, 0)) for name in ("judgments", "prompts"))
    print_outcome(record, noun="comparison")
    console.print(
        f"With them came {counted(judgments, 'judgment')} and {counted(prompts, 'new prompt')}.", highlight=False
    )


@cli.command("export")
def export_comparisons(
    campaign: CampaignOption,
    out: Annotated[Path, typer.Option(help="Where to write; a name that ends in .gz is compressed.")],
    rationales: Annotated[bool, typer.Option(help="Whether to include what annotators wrote.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Write a campaign's comparisons as house JSONL, annotators under pseudonyms."""
    if out.exists() and not overwrite:
        raise Invalid(f"{out} is there already. Choose another name, or replace it with --overwrite.")
    if not out.parent.is_dir():
        raise NotFound(f"There is no folder {out.parent}. Create it, or choose another place.")
    with command_database() as (settings, sessions), sessions.begin() as session:
        target = named_campaign(session, campaign)
        lines = export_house_jsonl(
            session,
            campaign_id=target.id,
            as_of=utc_now(),
            pseudonyms=Pseudonyms(settings.required_secret()),
            with_rationales=rationales,
        )
        count = _write(lines, out, total=_exported(session, target.id))
    console.print(
        f"{counted(count, 'comparison')} of {escape(target.name)} written to {escape(str(out))}.", soft_wrap=True
    )


def _exported(session: Session, campaign_id: int) -> int:
    query = select(func.count()).where(
        Comparison.campaign_id == campaign_id,
        Comparison.kind == ComparisonKind.ORDINARY,
        Comparison.state == ComparisonState.OPEN,
    )
    return session.scalars(query).one()


def _write(lines: Iterable[bytes], out: Path, *, total: int) -> int:
    """Write lines to a file that appears whole or not at all; returns how many."""
    count = 0
    with progress_bar() as bar, _whole_file(out) as file:
        task = bar.add_task("Writing comparisons", total=total)
        for count, line in enumerate(lines, start=1):
            file.write(line)
            bar.update(task, completed=count)
    return count


@contextmanager
def _whole_file(out: Path) -> Iterator[BinaryIO]:
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with gzip.open(part, "wb") if out.suffix == ".gz" else part.open("wb") as file:
            yield cast(BinaryIO, file)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
