"""`palate up` from the terminal's side: one command, clear words, and nothing lost when its plug is pulled."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from app.errors import Unavailable
from app.stack.up import refuse_full_disk
from tests.e2e.conftest import RunningPalate, start_palate, stop_palate
from tests.factories.datasets import house, write_lines
from tests.faults import RECOVERY_SECONDS
from tests.training.conftest import steps_taken, trainers_of
from trainer.contract.files import read_json
from trainer.contract.report import Outcome, Report
from trainer.contract.run import REPORT_FILE, REQUEST_FILE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]


def descendants(palate: RunningPalate) -> list[psutil.Process]:
    return psutil.Process(palate.process.pid).children(recursive=True)


def postgres_of(palate: RunningPalate) -> psutil.Process:
    return psutil.Process(int((palate.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


def wait_gone(processes: list[psutil.Process], seconds: float = 20) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, f"still running: {alive}"


def test_up_prints_an_address_and_a_link_survives_kill_9_and_stops_in_order(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data")
    assert palate.first_admin_link, "the first start prints a link for the first admin"
    assert httpx.get(f"{palate.address}/sign-in").status_code == 200

    second = palate.command("up")
    assert second.returncode == 1
    assert re.search(r"Port \d+ on 127.0.0.1 is taken by another program", second.stderr)
    beside = palate.command("up", "--port", "1")
    assert "Another `palate up` is using" in beside.stderr or "Permission" in beside.stderr

    invited = palate.command("user", "invite", "somebody@example.org")
    assert re.search(r"http://127.0.0.1:\d+/links/\S+", invited.stdout), invited.stderr

    children, postgres = descendants(palate), postgres_of(palate)
    palate.process.kill()
    palate.process.wait()
    wait_gone(children)
    assert postgres.is_running(), "the embedded PostgreSQL outlives its parent"

    again = start_palate(tmp_path / "data")
    assert postgres_of(again).pid == postgres.pid, "the next start adopts it"
    everything = [*descendants(again), postgres_of(again)]
    stop_palate(again)
    assert again.process.returncode == 0
    wait_gone(everything)


def test_a_killed_child_is_back_within_seconds(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data")
    web = next(child for child in descendants(palate) if "web" in child.cmdline())
    web.kill()
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            assert httpx.get(f"{palate.address}/healthz").json() == {"status": "alive"}
            break
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "the pages did not come back"
            time.sleep(0.1)
    stop_palate(palate)


def test_a_killed_embedded_postgresql_is_back_within_seconds(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data")
    postgres_of(palate).kill()
    wait_for(lambda: "database ended; started again" in (tmp_path / "data-up.log").read_text(), seconds=20)
    wait_for(lambda: httpx.get(f"{palate.address}/readyz").status_code == 200, seconds=20)
    stop_palate(palate)
    assert not (tmp_path / "data" / "postgres" / "postmaster.pid").exists(), "it stops with the rest"


@pytest.mark.timeout(600)
def test_a_run_stops_with_palate_and_goes_on_at_the_next_start_with_the_same_numbers(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data")
    folder = train(palate)

    trainer = trainer_of(folder)
    stop_palate(palate)
    wait_gone([trainer], seconds=1)
    left_at = steps_taken(folder)
    assert not (folder / REPORT_FILE).exists()
    assert [path.name for path in (folder / "checkpoints").glob(f"step-{left_at}")], "it left with a checkpoint"

    palate = start_palate(tmp_path / "data")
    trainer = trainer_of(folder, further_than=left_at)
    palate.process.kill()
    palate.process.wait()
    wait_gone([trainer])
    left_at = steps_taken(folder)
    assert not (folder / REPORT_FILE).exists()

    palate = start_palate(tmp_path / "data")
    trainer = trainer_of(folder, further_than=left_at)
    worker = next(child for child in descendants(palate) if "worker" in child.cmdline())
    worker.kill()
    wait_for((folder / REPORT_FILE).is_file)
    wait_gone([trainer], seconds=5)
    assert not trainers_of(folder), "the next worker adopted the trainer that its worker left behind"
    report = read_json(folder / REPORT_FILE, Report)
    assert (report.state, report.resumed) == (Outcome.SUCCEEDED, 2)
    assert steps_taken(folder) == report.steps, "no step was taken twice"

    stop_palate(palate)
    undisturbed = undisturbed_report(folder, tmp_path / "undisturbed")
    varying = {"started_at", "finished_at", "resumed", "seconds"}
    assert report.model_dump(exclude=varying) == undisturbed.model_dump(exclude=varying)


def train(palate: RunningPalate) -> Path:
    """Judge the starter model and ask for a run of some hundred steps; the folder of the run."""
    lines = [
        house(f"What is {number} in words?", "1>2", completions=("Happily! A number.", "No idea. Look it up."))
        for number in range(60)
    ]
    file = write_lines(palate.data_dir.parent / "judged.jsonl", lines)
    for command in (
        ("comparisons", "import", str(file), "--campaign", "First steps"),
        ("train", "--line", "starter", "--epochs", "24", "--no-wait"),
    ):
        done = palate.command(*command)
        assert done.returncode == 0, done.stderr
    folder = palate.data_dir.resolve() / "runs" / "1"
    wait_for(lambda: steps_taken(folder) > 30)
    return folder


def undisturbed_report(folder: Path, beside: Path) -> Report:
    """The report of the same request carried out from end to end."""
    beside.mkdir()
    shutil.copy(folder / REQUEST_FILE, beside)
    subprocess.run([sys.executable, "-m", "trainer", "run", str(beside)], check=True, capture_output=True)
    return read_json(beside / REPORT_FILE, Report)


def trainer_of(folder: Path, *, further_than: int = 0) -> psutil.Process:
    """The one trainer of a run, once it has got further than a step."""
    wait_for(lambda: steps_taken(folder) > further_than + 30)
    (pid,) = trainers_of(folder)
    return psutil.Process(pid)


def wait_for(holds: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.05)


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(pytest.fail.Exception, match=r"taken by another program"):
            start_palate(tmp_path / "data", port=port)
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.stack.up.LEAST_FREE_BYTES", 10**18)
    with pytest.raises(Unavailable, match=r"Free some space, or set PALATE_DATA_DIR to another disk"):
        refuse_full_disk(tmp_path)
