"""Several processes that train one model: two real gloo ranks, started by torchrun."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from app.stack.ports import free_port
from tests.trainer.conftest import MakeRun
from tests.trainer.test_run import metrics_of, report_of
from trainer.contract.files import write_json
from trainer.contract.report import Outcome
from trainer.contract.run import METRICS_FILE, REPORT_FILE, Command, Control, Hyperparameters, Method
from trainer.packing import Tree
from trainer.ranks import Ranks
from trainer.run import ExitCode, run

ROOT = Path(__file__).parents[2]


def torchrun(*arguments: str, ranks: int = 2, log: Path | None = None) -> subprocess.Popen[bytes]:
    """A program as so many ranks of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks)]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    output = log.open("ab") if log is not None else subprocess.DEVNULL
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)


def test_a_batch_is_shared_out_by_tokens_and_no_group_is_divided() -> None:
    trees = [Tree(tuple(range(length)), ((1, 2),)) for length in (10, 30, 8, 9, 5)]
    shares = [Ranks(rank, 2).share(trees) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(5))
    tokens = [sum(trees[number].tokens for number in share) for share in shares]
    assert abs(tokens[0] - tokens[1]) <= 6
    assert [Ranks(rank, 3).share(trees[:2]) for rank in range(3)] == [[1], [0], []]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_two_ranks_have_the_gradient_and_the_metrics_of_one(count: int, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = []
    for ranks in (1, 2):
        path, log = tmp_path / f"{ranks}.pt", tmp_path / f"{ranks}.log"
        process = torchrun("-m", "tests.trainer.ranks_program", str(count), str(path), ranks=ranks, log=log)
        assert process.wait(timeout=300) == 0, log.read_text()
        found.append(torch.load(path, weights_only=True))
    alone, together = found
    assert together["figures"] == pytest.approx(alone["figures"], rel=1e-6, abs=1e-9)
    for name, gradient in alone["gradients"].items():
        difference = (together["gradients"][name] - gradient).norm()
        assert difference <= 1e-6 * gradient.norm() + 1e-9, name
        torch.testing.assert_close(together["model"][name], alone["model"][name], rtol=1e-6, atol=1e-8)


def started(folder: Path, *, ranks: int = 2) -> subprocess.Popen[bytes]:
    """The trainer as a group."""
    return torchrun("-m", "trainer", "run", str(folder), ranks=ranks, log=folder / "log.txt")


def curve_of(folder: Path) -> list[float]:
    """The loss of each step, of a step taken twice the last."""
    return list({row.step: row.loss for row in metrics_of(folder) if row.loss is not None}.values())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method.DPO, Method.KTO, Method.BCO])
def test_a_run_of_two_ranks_is_that_of_one(method: Method, make_run: MakeRun) -> None:
    alone, together = make_run("alone", method=method), make_run("together", method=method)
    assert run(alone) == ExitCode.DONE
    assert started(together).wait(timeout=300) == 0, (together / "log.txt").read_text()
    assert report_of(together).state is Outcome.SUCCEEDED
    assert curve_of(together) == pytest.approx(curve_of(alone), rel=1e-5)
    assert report_of(together).train_pairs == 40


def wait_for(folder: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    """Until a line of the metrics holds `text`."""
    until = time.monotonic() + 300
    while not ((folder / METRICS_FILE).is_file() and text in (folder / METRICS_FILE).read_text()):
        assert process.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < until
        time.sleep(0.02)


def ranks_of(process: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """The processes under torchrun by rank."""
    return {child.environ()["RANK"]: child for child in psutil.Process(process.pid).children()}


@pytest.mark.slow
@pytest.mark.parametrize("killed", ["leader", "follower"])
def test_a_group_that_loses_a_process_ends_and_its_run_is_taken_up_again(killed: str, make_run: MakeRun) -> None:
    longer = Hyperparameters(epochs=30, learning_rate=1e-3, drift_weight=0.1)
    unbroken, broken = make_run("unbroken", hyperparameters=longer), make_run("broken", hyperparameters=longer)
    assert started(unbroken).wait(timeout=300) == 0
    process = started(broken)
    wait_for(broken, '"step":31,', process)
    children = ranks_of(process)
    os.kill(children["0" if killed == "leader" else "1"].pid, signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert not (broken / REPORT_FILE).exists()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children.values())
    assert started(broken).wait(timeout=300) == 0
    assert report_of(broken).resumed == 1
    assert report_of(broken).hashes["model"] == report_of(unbroken).hashes["model"], "to the last bit"


@pytest.mark.slow
def test_a_group_heeds_pause_and_cancel(make_run: MakeRun) -> None:
    folder = make_run(hyperparameters=Hyperparameters(epochs=200, learning_rate=1e-3, drift_weight=0.1))
    process = started(folder)
    wait_for(folder, '"step":5,', process)
    write_json(folder / "control.json", Control(command=Command.PAUSE))
    wait_for(folder, "Paused.", process)
    write_json(folder / "control.json", Control(command=Command.RUN))
    wait_for(folder, "Going on.", process)
    write_json(folder / "control.json", Control(command=Command.CANCEL))
    process.wait(timeout=60)
    assert report_of(folder).state is Outcome.CANCELLED


@pytest.mark.slow
def test_a_fault_on_a_rank_that_follows_is_in_the_report(make_run: MakeRun) -> None:
    folder = make_run(hyperparameters=Hyperparameters(epochs=100, learning_rate=1e-3, drift_weight=0.1))
    process = started(folder)
    wait_for(folder, "Asking the reference", process)
    (folder / "checkpoints" / "limits.json").write_text("{}broken")
    process.wait(timeout=120)
    report = report_of(folder)
    assert report.state is Outcome.FAILED
    assert report.message.startswith("Rank 1 of 2 could not prepare")
