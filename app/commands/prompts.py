"""`palate prompts`: bring prompts into a campaign, and look at them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from app.clock import utc_now
from app.commands.imports import CampaignOption, print_outcome, require_file, with_stored_hint
from app.commands.surroundings import command_database, console, counted, named_campaign, share_bar
from app.errors import Invalid
from app.generation.models import PromptState
from app.generation.service.imports import ImportProgress
from app.generation.service.imports import import_prompts as take_in
from app.generation.service.prompts import PromptFilter
from app.generation.service.prompts import list_prompts as find_prompts

cli = typer.Typer(help="Bring prompts into a campaign, and look at them.", no_args_is_help=True)

SHOWN_CHARACTERS = 100


@cli.command("import")
def import_prompts(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV or TSV; may be gzipped.")], campaign: CampaignOption
) -> None:
    """Add the prompts of a file to a campaign. Importing a file again adds nothing twice."""
    require_file(file)
    with command_database() as (_, sessions):
        with sessions.begin() as session:
            target = named_campaign(session, campaign)
        with share_bar() as bar:
            task = bar.add_task(f"Importing {escape(file.name)}", total=1.0)

            def show(so_far: ImportProgress) -> None:
                bar.update(task, completed=so_far.share_read, description=f"{counted(so_far.added, 'prompt')} added")

            try:
                record = take_in(sessions, campaign_id=target.id, path=file, by_id=None, clock=utc_now, progress=show)
            except Invalid as error:
                raise with_stored_hint(error, campaign=target.name) from error
    print_outcome(record, noun="prompt")


@cli.command("list")
def list_prompts(
    campaign: CampaignOption,
    state: Annotated[PromptState | None, typer.Option(help="Only prompts in this state.")] = None,
    search: Annotated[str, typer.Option(help="Only prompts with these words.")] = "",
    page: Annotated[int, typer.Option(min=1, help="The first page has the newest.")] = 1,
) -> None:
    """List the prompts of a campaign, the newest first."""
    with command_database() as (_, sessions), sessions.begin() as session:
        target = named_campaign(session, campaign)
        found = find_prompts(session, campaign_id=target.id, which=PromptFilter(state=state, search=search), page=page)
    table = Table("Number", "State", "Split", "Tags", "Prompt")
    for prompt in found.prompts:
        split = prompt.split.value if prompt.split is not None else "neither"
        text = " ".join(str(prompt.messages[-1]["content"]).split())
        shown = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
        table.add_row(str(prompt.id), prompt.state.value, split, escape(", ".join(prompt.tags)), escape(shown))
    console.print(table)
    console.print(
        f"{len(found.prompts)} of {found.total:,} prompts, page {found.number}.", style="dim", highlight=False
    )
