"""`palate doctor`, `clean`, `backup` and `restore`: looking after an installation."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from app.clock import utc_now
from app.commands.surroundings import command_database, console, counted
from app.database import make_engine, make_session_factory
from app.errors import Invalid
from app.operation.backup import back_up, restore
from app.operation.cleaning import leftovers, remove, remove_rows
from app.operation.condition import Finding, examine
from app.settings import Settings, load_settings
from app.stack.migrations import migrate
from app.stack.postgres import running_database

cli = typer.Typer()
PARTS = ("database", "worker", "jobs", "model-server", "disk", "files", "web")


@cli.command()
def doctor(
    only: Annotated[str | None, typer.Option(help=f"One part alone: {', '.join(PARTS)}.")] = None,
) -> None:
    """Look at every part and say what to do where one is not well. Ends with 1 where one is not."""
    if only is not None and only not in PARTS:
        raise Invalid(f"There is no part {only}. The parts are {', '.join(PARTS)}.")
    settings = load_settings()
    with running_database(settings) as address:
        engine = make_engine(address)
        findings = examine(settings, make_session_factory(engine), now=utc_now(), only=only)
        engine.dispose()
    for finding in findings:
        _say(finding)
    if not all(finding.is_well for finding in findings):
        raise typer.Exit(1)


def _say(finding: Finding) -> None:
    mark = "[green]well[/green]  " if finding.is_well else "[red]unwell[/red]"
    console.print(f"{mark}  [bold]{finding.title}[/bold]: {escape(finding.message)}", soft_wrap=True, highlight=False)
    if finding.advice:
        console.print(f"        {escape(finding.advice)}", soft_wrap=True, highlight=False)


@cli.command()
def clean(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
) -> None:
    """Delete what nobody needs any more, by the rule of docs/operations.md. The worker does it every hour."""
    with command_database() as (settings, sessions):
        now = utc_now()
        with sessions.begin() as session:
            found = leftovers(session, settings, now=now)
            if not dry_run:
                remove_rows(session, now=now)
    for leftover in found:
        line = f"{leftover.bytes / 1e6:10.1f} MB  {leftover.path}: {leftover.why}"
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if not dry_run:
        remove(found)
    total = sum(leftover.bytes for leftover in found) / 1e6
    console.print(f"{counted(len(found), 'leftover')}, {total:.1f} MB {'would go' if dry_run else 'deleted'}.")


@cli.command()
def backup(to: Annotated[Path, typer.Argument(help="File to write, say palate-2026-11-23.tar.")]) -> None:
    """Copy the database and all files into one file. Nothing needs to be stopped."""
    settings = load_settings()
    with running_database(settings) as address, console.status("Copying …") as status:
        copied = back_up(
            address,
            data_dir=settings.data_dir,
            to=to,
            now=utc_now(),
            on_file=lambda name: status.update(f"Copying {name} …"),
        )
    console.print(f"{to}: {copied.files} files, {copied.bytes / 1e6:.1f} MB.", soft_wrap=True, highlight=False)
    console.print("It holds the secret key and all judgments: keep it as safe as the server.", style="dim")
    _name_elsewhere(copied.elsewhere)


@cli.command("restore")
def restore_backup(backup: Annotated[Path, typer.Argument(help="A file that `palate backup` wrote.")]) -> None:
    """Fill an empty installation from a backup, and bring it to the newest revision."""
    settings = Settings()
    data_dir = settings.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    settings = settings.model_copy(update={"data_dir": data_dir})
    with running_database(settings) as address, console.status("Restoring …") as status:
        elsewhere = restore(
            backup,
            database_url=address,
            data_dir=data_dir,
            on_file=lambda name: status.update(f"Restoring {name} …"),
        )
        engine = make_engine(address)
        migrate(engine)
        engine.dispose()
    console.print(f"Restored into {data_dir}. Start with `palate up`.", soft_wrap=True, highlight=False)
    _name_elsewhere(elsewhere)


def _name_elsewhere(folders: list[str]) -> None:
    for folder in folders:
        console.print(f"Not in it, for it lies outside the data folder: {folder}", style="yellow", soft_wrap=True)
