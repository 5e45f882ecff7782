"""Each form of judgment held to the budgets of the plain one: what a judgment costs, what travels, and the first load.

    python -m benchmarks.forms [--cycles 200]

Every row is a campaign of its own and a server of its own. Ratios are to the pair without anything beside it, measured
twice, first and last, so that the machine's weather shows.
"""

import shutil
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.table import Table

from app.campaigns.asking import NOTHING, Asked, Criterion, Rationale, Strength
from benchmarks.annotators import Annotator
from benchmarks.first_page import load
from benchmarks.installation import filled_database, postgres, web
from benchmarks.processor import cpu_seconds, yardstick_ms

WARM_UP = 40
COMPARISONS = 1_000
LOADS = 3

CRITERIA = tuple(Criterion(name=name, help=f"Which one is more {name}?") for name in ("helpful", "honest", "harmless"))
BY_CRITERIA = {"criterion-1": "1>2", "criterion-2": "1=2", "criterion-3": "2>1"}
FLAGS = ("Unsafe", "Off topic", "Wrong language")
REASONS = ("More accurate", "Clearer", "Better tone")


@dataclass(frozen=True)
class Form:
    """A form of judgment, and what one answers."""

    name: str
    asked: Asked = NOTHING
    shown: int = 2
    ranking: str = "1>2"
    beside: dict[str, str] = field(default_factory=dict)


def ranked(shown: int) -> str:
    """A ranking of so many, with a tie in it where there are more than two."""
    return ">".join(str(place) for place in range(shown, 2, -1)) + ">1=2"


FORMS = [
    Form("pair"),
    Form("strength, four words", Asked(strength=Strength.WORDS), ranking="", beside={"graded": "1>2:3"}),
    Form("strength, eight points", Asked(strength=Strength.POINTS), ranking="", beside={"graded": "1>2:3"}),
    Form("three criteria beside the verdict", Asked(criteria=CRITERIA), beside=BY_CRITERIA),
    Form("three criteria alone", Asked(criteria=CRITERIA, criteria_alone=True), ranking="", beside=BY_CRITERIA),
    Form("ratings to 7", Asked(rating=7), beside={"rating-1": "6", "rating-2": "2"}),
    Form("three flags", Asked(flags=FLAGS), beside={"flag-2-1": "on"}),
    Form(
        "rationale, reasons at hand",
        Asked(rationale=Rationale.REQUIRED, reasons=REASONS),
        beside={"rationale": "More accurate. It names the temperature."},
    ),
    Form(
        "error spans",
        Asked(spans=(Criterion(name="Wrong", help="It is not so."), Criterion(name="Unclear"))),
        beside={"spans": '[{"place":1,"start":0,"end":1,"category":2,"text":"T"}]'},
    ),
    Form("confidence", Asked(confidence=True), beside={"confidence": "4"}),
    Form(
        "all of these at once",
        Asked(
            criteria=CRITERIA, strength=Strength.WORDS, confidence=True, rating=7, flags=FLAGS,
            rationale=Rationale.OPTIONAL, reasons=REASONS, corrections=True,
        ),
        ranking="",
        beside={"graded": "1>2:3", **BY_CRITERIA, "rating-1": "6", "flag-2-1": "on", "confidence": "4"},
    ),
    Form("ranking of 3", shown=3, ranking=ranked(3)),
    Form("ranking of 4", shown=4, ranking=ranked(4)),
    Form("ranking of 9", shown=9, ranking=ranked(9)),
    Form(
        "ranking of 4, three criteria",
        Asked(criteria=CRITERIA),
        shown=4,
        ranking=ranked(4),
        beside={"criterion-1": "2134", "criterion-2": "1>2=3>4", "criterion-3": "4321"},
    ),
    Form("pair, once more"),
]  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where it is measured."""

    folder: Path
    server: str
    postgres_pid: int
    browser: Browser


@dataclass(frozen=True)
class Measured:
    """CPU milliseconds and bytes of a judgment; bytes, requests and milliseconds of the first load."""

    cpu_ms: float
    answer_bytes: int
    page_bytes: float
    requests: float
    ready_ms: float


def main(cycles: Annotated[int, typer.Option(help="Judgments measured per form.")] = 200) -> None:
    """Measure every form and print one table."""
    with tempfile.TemporaryDirectory(prefix="palate-forms-") as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with postgres(Path(name)) as (server, postgres_pid):
            place = Place(Path(name), server, postgres_pid, browser)
            measured = [
                _measure(place, form, name=f"form_{number}", cycles=cycles) for number, form in enumerate(FORMS)
            ]
        browser.close()
    plain = (measured[0].cpu_ms + measured[-1].cpu_ms) / 2
    table = Table(title=f"Every form of judgment; yardstick {yardstick_ms():.0f} ms")
    table.add_column("form")
    for column in ("CPU ms", "to the pair", "answer, bytes", "first load, KB", "requests", "ms to a judgment"):
        table.add_column(column, justify="right")
    for form, one in zip(FORMS, measured, strict=True):
        table.add_row(
            form.name, f"{one.cpu_ms:.1f}", f"{one.cpu_ms / plain:.2f}", f"{one.answer_bytes:,}",
            f"{one.page_bytes / 1000:.1f}", f"{one.requests:.0f}", f"{one.ready_ms:.0f}",
        )  # fmt: skip
    Console(width=110).print(table)


def _measure(place: Place, form: Form, *, name: str, cycles: int) -> Measured:
    database = filled_database(
        place.server, name=name, comparisons=COMPARISONS, annotators=1, asked=form.asked, shown=form.shown
    )
    with web(database, folder=place.folder) as (host, port, web_pid):
        loads = [load(place.browser, database, f"http://{host}:{port}") for _ in range(LOADS)]
        person = Annotator(host, port, database.tokens[0])
        person.open(database.campaign_id)
        for _ in range(WARM_UP):
            person.judge(form.ranking, **form.beside)
        before = cpu_seconds(web_pid) + cpu_seconds(place.postgres_pid)
        for _ in range(cycles):
            person.judge(form.ranking, **form.beside)
        spent = cpu_seconds(web_pid) + cpu_seconds(place.postgres_pid) - before
    size, requests, ready, _ = (statistics.median(each) for each in zip(*loads, strict=True))
    return Measured(1000 * spent / cycles, person.received_bytes, size, requests, ready)


if __name__ == "__main__":
    typer.run(main)
