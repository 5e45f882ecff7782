"""`palate snapshot`: freeze judgments into a dataset, and take one back."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from app.clock import utc_now
from app.commands.surroundings import command_database, console, named_campaign, named_line, progress_bar
from app.datasets.models import Snapshot
from app.datasets.service.counting import judgment_counts
from app.datasets.service.freezing import COUNTS, freeze_snapshot
from app.datasets.service.snapshots import get_snapshot, request_snapshot
from app.datasets.service.withdrawing import delete_withdrawn_files, withdraw_snapshot
from app.errors import Invalid
from trainer.contract.snapshot import SnapshotPolicy

cli = typer.Typer(help="Freeze judgments into a dataset, or take one back.", invoke_without_command=True)

LineOption = Annotated[str | None, typer.Option("--line", help="Short name of a model line: all its campaigns.")]
OneCampaignOption = Annotated[
    str | None, typer.Option("--campaign", help="Number or exact name of a campaign: that one alone.")
]


@cli.callback()
def snapshot(
    context: typer.Context,
    *,
    line: LineOption = None,
    campaign: OneCampaignOption = None,
    surplus: Annotated[bool, typer.Option("--surplus", help="Include judgments beyond the redundancy.")] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Include judgments that a manager set aside.")] = False,
    rationales: Annotated[bool, typer.Option("--rationales", help="Include what annotators wrote.")] = False,
    corrections: Annotated[
        bool, typer.Option("--corrections", help="Make pairs in which a correction is preferred to what it corrects.")
    ] = False,
    incomplete: Annotated[bool, typer.Option(help="Include comparisons that still lack judgments.")] = True,
) -> None:
    """Freeze all judgments up to now into a folder that never changes.

    Name either a model line or one campaign. `withdraw` takes a snapshot back.
    """
    if context.invoked_subcommand is not None:
        return
    if (line is None) == (campaign is None):
        raise Invalid("Say what to freeze: either --line with a model line, or --campaign with a campaign.")
    policy = SnapshotPolicy(
        include_surplus=surplus,
        include_rejected=rejected,
        include_rationales=rationales,
        incomplete_comparisons=incomplete,
        corrections_as_chosen=corrections,
    )
    with command_database() as (settings, sessions):
        with sessions.begin() as session:
            line_id = named_line(session, line).id if line is not None else None
            campaign_id = named_campaign(session, campaign).id if campaign is not None else None
            now = utc_now()
            requested = request_snapshot(
                session, line_id=line_id, campaign_id=campaign_id, policy=policy, by_id=None, now=now
            )
            total = judgment_counts(session, line_id=line_id, campaign_id=campaign_id, as_of=now).judgments
        with progress_bar() as bar:
            task = bar.add_task("Writing judgments", total=total)
            freeze_snapshot(
                sessions,
                settings,
                snapshot_id=requested.id,
                now=utc_now(),
                progress=lambda written: bar.update(task, completed=written),
            )
        with sessions.begin() as session:
            _print(session.get_one(Snapshot, requested.id))


@cli.command()
def withdraw(
    number: Annotated[int, typer.Argument(help="The snapshot's number.")],
    reason: Annotated[str, typer.Option(help="Why; it stays on record.", prompt=True)],
) -> None:
    """Take a snapshot back: its files are deleted, what it was stays known. Not to be undone."""
    with command_database() as (settings, sessions):
        with sessions.begin() as session:
            taken_back = get_snapshot(session, number)
            withdraw_snapshot(session, snapshot=taken_back, reason=reason, by_id=None, now=utc_now())
        delete_withdrawn_files(settings, taken_back)
    console.print(f"Snapshot {number} is withdrawn and its files are deleted.")


def _print(frozen: Snapshot) -> None:
    console.print(f"Snapshot {frozen.id}, {escape(frozen.name)}: {escape(frozen.path or '')}", soft_wrap=True)
    table = Table("Counted", "", show_header=False)
    for name in COUNTS:
        table.add_row(name.replace("_", " "), f"{(frozen.counts or {}).get(name, 0):,}")
    console.print(table)
    console.print(f"SHA-256 of the rows: {frozen.rows_sha256}", soft_wrap=True, highlight=False)
