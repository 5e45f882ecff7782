"""The long form: `python -m tests.faults --kills 250 --seed 7` kills every process many times and prints a report."""

import random
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.faults.installation import PROCESSES, installation
from tests.faults.kills import Kill, Tally, pull_plugs
from tests.faults.people import People
from tests.faults.soundness import amiss, leases_left
from trainer.contract.steps import Step

console = Console(width=150)


def main(
    kills: Annotated[int, typer.Option(help="Plugs to pull; every named step is among them at least once.")] = 250,
    seed: Annotated[int, typer.Option(help="Decides order and moments.")] = 7,
    annotators: Annotated[int, typer.Option(help="People who judge meanwhile.")] = 6,
    only: Annotated[list[Step] | None, typer.Option(help="These steps alone.")] = None,
    process: Annotated[list[str] | None, typer.Option(help="Random kills of these processes alone.")] = None,
) -> None:
    """Kill, look, report; ends with 1 where something did not survive."""
    rng = random.Random(seed)
    steps = only or list(Step)
    rounds = max(1, kills // (2 * len(steps))) if only is None else 1
    chosen = (steps * rounds)[:kills]
    with tempfile.TemporaryDirectory(prefix="palate-faults-") as name, installation(Path(name), annotators) as place:
        begun = time.monotonic()
        with People(place, seed=seed) as people:
            tally = pull_plugs(
                people,
                steps=chosen,
                random_kills=kills - len(chosen),
                rng=rng,
                processes=tuple(process) if process else PROCESSES,
                on_kill=_say,
            )
        left = amiss(place, people.ledger) + leases_left(place)
        _report(tally, people, left, minutes=(time.monotonic() - begun) / 60)
    raise typer.Exit(1 if tally.missed or tally.never_pulled or left or people.ledger.refused else 0)


def _say(kill: Kill) -> None:
    console.print(f"{time.strftime('%H:%M:%S')} {kill}", highlight=False, markup=False)


def _report(tally: Tally, people: People, left: list[str], *, minutes: float) -> None:
    table = Table("process", "kills", "survived", "recovery: median", "longest", title="Kills survived per process")
    for process, kills, survived, median, longest in tally.rows():
        table.add_row(process, str(kills), str(survived), f"{median:.1f} s", f"{longest:.1f} s")
    console.print(table)
    ledger = people.ledger
    console.print(
        f"{len(ledger.acknowledged)} acknowledged deeds, {ledger.tries} requests, {minutes:.0f} minutes. "
        f"Not reached in time: {', '.join(tally.unreached) or 'none'}; "
        f"never: {', '.join(tally.never_pulled) or 'none'}. "
        f"At the end amiss: {left or 'nothing'}. Refused: {ledger.refused or 'none'}.",
        markup=False,
    )


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
