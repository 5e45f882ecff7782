"""How long `palate up` takes to its first page, embedded PostgreSQL included, and what its processes hold when idle.

    python -m benchmarks.start [--starts 5]

The first start prepares the folder: database, migrations, starter campaign. The others are those that count.
"""

import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from app.stack.ports import free_port
from benchmarks.processor import cpu_seconds, resident_megabytes, yardstick_ms

SETTLES_SECONDS = 8
"""After the first page, until everything has loaded what it keeps."""
PATIENCE_SECONDS = 120
ROLES = ("web", "worker", "serve")
"""What tells the processes apart, among the words of their commands."""


def main(starts: Annotated[int, typer.Option(help="Starts measured, after the first.")] = 5) -> None:
    """Measure and print two tables."""
    with tempfile.TemporaryDirectory(prefix="palate-start-") as name:
        measured = []
        for number in range(starts + 1):
            with _up(Path(name) / "data") as (process, seconds):
                measured.append((seconds, cpu_seconds(process.pid)))
                if number == starts:
                    time.sleep(SETTLES_SECONDS)
                    held = _held(process.pid, Path(name) / "data")
    print(f"yardstick {yardstick_ms():.0f} ms")
    _print_times(measured)
    _print_memory(held)


@contextmanager
def _up(data: Path) -> Iterator[tuple["subprocess.Popen[bytes]", float]]:
    """`palate up` on a free port, and how long it took to the first page."""
    port = free_port()
    command = [Path(sys.executable).with_name("palate"), "up", "--port", str(port), "--data-dir", str(data)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _await_page(f"http://127.0.0.1:{port}/sign-in", process)
        yield process, time.perf_counter() - begun
    finally:
        process.terminate()
        process.wait(60)


def _await_page(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(PATIENCE_SECONDS * 50):
        if process.poll() is not None:
            raise RuntimeError("`palate up` ended")
        try:
            urllib.request.urlopen(address, timeout=5).read()  # noqa: S310
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(address)


def _held(pid: int, data: Path) -> dict[str, float]:
    """Megabytes per process of the stack; PostgreSQL with all that serve its connections."""
    held = {"palate up": psutil.Process(pid).memory_full_info().pss / 1e6}
    for child in psutil.Process(pid).children():
        role = next((role for role in ROLES if role in child.cmdline()), None)
        if role is not None:
            held[role] = resident_megabytes(child.pid)
    held["PostgreSQL"] = resident_megabytes(int((data / "postgres" / "postmaster.pid").read_text().split()[0]))
    return held


def _print_times(measured: list[tuple[float, float]]) -> None:
    table = Table(title="From `palate up` to the first page")
    for column in ("", "seconds", "CPU seconds until then"):
        table.add_column(column, justify="right")
    (first, *others) = measured
    table.add_row("first start, which prepares", f"{first[0]:.1f}", f"{first[1]:.1f}")
    seconds, busy = (statistics.median(each) for each in zip(*others, strict=True))
    table.add_row(f"median of the next {len(others)}", f"{seconds:.1f}", f"{busy:.1f}")
    table.add_row(
        "fastest of them", f"{min(taken for taken, _ in others):.1f}", f"{min(busy for _, busy in others):.1f}"
    )
    Console().print(table)


def _print_memory(held: dict[str, float]) -> None:
    table = Table(title="Idle, MB (pages that processes share counted in parts)")
    for column in held:
        table.add_column("model server" if column == "serve" else column, justify="right")
    table.add_row(*(f"{megabytes:.0f}" for megabytes in held.values()))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
