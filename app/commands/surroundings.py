"""What every command stands on: a reachable database, a transaction, progress on the terminal."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.campaigns.models import Campaign
from app.database import SessionFactory, make_engine, make_session_factory
from app.deployments.models import ModelLine
from app.errors import NotFound
from app.settings import Settings, load_settings
from app.stack.migrations import migrate
from app.stack.postgres import running_database

console = Console()


@contextmanager
def opened_database(settings: Settings) -> Iterator[Settings]:
    """The settings with the address of a running database, embedded or set, at the newest revision."""
    with ExitStack() as stack:
        with console.status("Opening the database …") if console.is_terminal else nullcontext():
            database_url = stack.enter_context(running_database(settings))
            engine = make_engine(database_url)
            migrate(engine)
            engine.dispose()
        yield settings.model_copy(update={"database_url": database_url})


@contextmanager
def command_database() -> Iterator[tuple[Settings, SessionFactory]]:
    """Settings and sessions for one command."""
    with opened_database(load_settings()) as settings:
        assert settings.database_url is not None
        engine = make_engine(settings.database_url)
        try:
            yield settings, make_session_factory(engine)
        finally:
            engine.dispose()


def progress_bar() -> Progress:
    """A bar for work of known length, or a spinner with a count where the length is unknown."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def share_bar() -> Progress:
    """A bar for work of which only the share that is done is known, from 0 to 1."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def counted(count: int, noun: str) -> str:
    """A number with its noun, in words: `1 prompt`, `1,200 prompts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def named_campaign(session: Session, name: str) -> Campaign:
    """A campaign by number or exact name; raises NotFound with the ones there are."""
    campaigns = list(session.scalars(select(Campaign).order_by(Campaign.id)))
    for campaign in campaigns:
        if name in {str(campaign.id), campaign.name}:
            return campaign
    known = ", ".join(f"{campaign.id} ({campaign.name})" for campaign in campaigns) or "none yet"
    raise NotFound(f"There is no campaign {name!r}. Campaigns: {known}.")


def named_line(session: Session, slug: str) -> ModelLine:
    """A model line by its short name; raises NotFound with the ones there are."""
    lines = list(session.scalars(select(ModelLine).order_by(ModelLine.id)))
    for line in lines:
        if slug in {line.slug, line.name}:
            return line
    known = ", ".join(line.slug for line in lines) or "none yet"
    raise NotFound(f"There is no model line {slug!r}. Lines: {known}.")
