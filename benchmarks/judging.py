"""What a judgment costs, how that grows, how many fit into a second, and whether a race stays exact.

    python -m benchmarks.judging [--growth 1000 --growth 50000] [--seconds 15] [--workers 2]

Most of its few minutes go into filling a campaign of a million comparisons.

CPU time of web and PostgreSQL is that of the processes themselves, sign-in, CSRF and permissions included.
"""

import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console
from rich.table import Table

from app.database import libpq_url
from benchmarks.annotators import Annotator
from benchmarks.installation import Database, filled_database, postgres, web
from benchmarks.processor import cpu_seconds, resident_megabytes, yardstick_ms

console = Console(width=110)
ANNOTATORS = 16
WARM_UP = 60


@dataclass(frozen=True)
class Cycle:
    """CPU milliseconds per judgment, and how long a person waited (median, 95th percentile; milliseconds)."""

    comparisons: int
    web_ms: float
    postgres_ms: float
    p50_ms: float
    p95_ms: float
    answer_bytes: int
    idle_megabytes: float


def main(
    growth: Annotated[list[int] | None, typer.Option(help="Sizes of the campaign, in comparisons.")] = None,
    cycles: Annotated[int, typer.Option(help="Judgments measured per size.")] = 400,
    seconds: Annotated[float, typer.Option(help="How long 16 annotators judge at once.")] = 15,
    workers: Annotated[list[int] | None, typer.Option(help="Web processes to try with 16 annotators.")] = None,
) -> None:
    """Measure everything and print three tables."""
    console.print(f"yardstick {yardstick_ms():.0f} ms")
    with tempfile.TemporaryDirectory(prefix="palate-judging-") as name:
        folder = Path(name)
        with postgres(folder) as (server, postgres_pid):
            measured = [
                _cycle(server, postgres_pid, folder=folder, comparisons=size, cycles=cycles)
                for size in growth or [1_000, 50_000, 1_000_000]
            ]
            _print_cycles(measured)
            _print_throughput(server, folder, seconds=seconds, workers=workers or [1, 2])
            _print_race(server, folder)


def _cycle(server: str, postgres_pid: int, *, folder: Path, comparisons: int, cycles: int) -> Cycle:
    database = filled_database(server, name=f"cycle_{comparisons}", comparisons=comparisons, annotators=1)
    with web(database, folder=folder) as (host, port, web_pid):
        idle = resident_megabytes(web_pid)
        person = Annotator(host, port, database.tokens[0])
        person.open(database.campaign_id)
        for number in range(WARM_UP):
            person.judge("1>2" if number % 3 else "1=2")
        person.latencies.clear()
        before = cpu_seconds(web_pid), cpu_seconds(postgres_pid)
        for number in range(cycles):
            person.judge("1>2" if number % 3 else "1=2")
        after = cpu_seconds(web_pid), cpu_seconds(postgres_pid)
    per_cycle = [1000 * (end - begin) / cycles for begin, end in zip(before, after, strict=True)]
    waits = [1000 * latency for latency in person.latencies]
    p50, p95 = statistics.median(waits), statistics.quantiles(waits, n=20)[-1]
    return Cycle(comparisons, per_cycle[0], per_cycle[1], p50, p95, person.received_bytes, idle)


def _print_cycles(measured: list[Cycle]) -> None:
    table = Table(title="One annotator: from a verdict submitted to the next comparison shown")
    for column in (
        "comparisons",
        "web CPU ms",
        "PostgreSQL CPU ms",
        "together",
        "growth",
        "p50 ms",
        "p95 ms",
        "bytes",
        "idle MB",
    ):
        table.add_column(column, justify="right")
    first = measured[0].web_ms + measured[0].postgres_ms
    for one in measured:
        both = one.web_ms + one.postgres_ms
        table.add_row(
            f"{one.comparisons:,}", f"{one.web_ms:.2f}", f"{one.postgres_ms:.2f}", f"{both:.2f}", f"{both / first:.2f}",
            f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}", f"{one.answer_bytes:,}", f"{one.idle_megabytes:.0f}",
        )  # fmt: skip
    console.print(table)


def _print_throughput(server: str, folder: Path, *, seconds: float, workers: list[int]) -> None:
    table = Table(title=f"{ANNOTATORS} annotators at once, the load generator on the same cores")
    for column in ("web processes", "judgments/s", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(column, justify="right")
    for count in workers:
        database = filled_database(server, name=f"load_{count}", comparisons=20_000, annotators=ANNOTATORS)
        with web(database, folder=folder, workers=count) as (host, port, _):
            people = _seated(database, host, port)
            begun = time.perf_counter()
            _all_judge(people, until=begun + seconds)
            took = time.perf_counter() - begun
        waits = sorted(1000 * latency for person in people for latency in person.latencies)
        quantiles = statistics.quantiles(waits, n=100)
        table.add_row(
            str(count), f"{len(waits) / took:.0f}", *(f"{quantiles[at]:.0f}" for at in (49, 94, 98))
        )  # fmt: skip
    console.print(table)


def _print_race(server: str, folder: Path) -> None:
    table = Table(title=f"{ANNOTATORS} annotators race for 300 comparisons")
    for column in ("redundancy", "judgments sent", "counted", "surplus", "comparisons complete", "seconds"):
        table.add_column(column, justify="right")
    for redundancy in (1, 2):
        database = filled_database(
            server, name=f"race_{redundancy}", comparisons=300, annotators=ANNOTATORS, redundancy=redundancy
        )
        with web(database, folder=folder, workers=2) as (host, port, _):
            people = _seated(database, host, port)
            begun = time.perf_counter()
            _all_judge(people, until=begun + 300)
            took = time.perf_counter() - begun
        sent = sum(len(person.latencies) for person in people)
        table.add_row(str(redundancy), str(sent), *(str(count) for count in _outcome(database)), f"{took:.1f}")
    console.print(table)


def _outcome(database: Database) -> tuple[int, int, int]:
    """Counted judgments, surplus ones, and comparisons whose every slot is filled."""
    with psycopg.connect(libpq_url(database.address)) as connection:
        row = connection.execute(
            """SELECT (SELECT count(*) FROM slots WHERE judgment_id IS NOT NULL),
                      (SELECT count(*) FROM judgments WHERE surplus),
                      (SELECT count(*) FROM (SELECT FROM slots GROUP BY comparison_id
                                             HAVING bool_and(judgment_id IS NOT NULL)) AS complete)"""
        ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def _seated(database: Database, host: str, port: int) -> list[Annotator]:
    people = [Annotator(host, port, token) for token in database.tokens]
    for person in people:
        person.open(database.campaign_id)
    return people


def _all_judge(people: list[Annotator], *, until: float) -> None:
    def work(person: Annotator) -> None:
        number = 0
        while person.has_comparison and time.perf_counter() < until:
            number += 1
            person.judge("1>2" if number % 3 else "1=2")

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    typer.run(main)
