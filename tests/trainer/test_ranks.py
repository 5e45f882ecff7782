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
from safetensors.torch import load_file

from app.stack.ports import free_port
from tests.trainer.conftest import QUICK, MakeRun
from tests.trainer.test_run import metrics_of, report_of
from trainer.contract.files import write_json
from trainer.contract.report import Outcome
from trainer.contract.run import METRICS_FILE, REPORT_FILE, Command, Control, Hyperparameters, Method, Tuning
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


CASES = [
    "1: whole",
    "3: whole",
    "7: whole, anew",
    "1: sharded",
    "7: sharded, tied",
    "3: sharded, adapter",
    "3: whole, adapter",
    "7: sharded, anew",
]


@pytest.fixture(scope="session")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what came of each case, with one process and with two."""
    folder = tmp_path_factory.mktemp("steps")
    for ranks in (1, 2):
        log = folder / f"{ranks}.log"
        process = torchrun("-m", "tests.trainer.ranks_program", str(folder), *CASES, ranks=ranks, log=log)
        assert process.wait(timeout=300) == 0, log.read_text()
    return folder


@pytest.mark.xdist_group("two_steps")
@pytest.mark.parametrize("case", CASES)
def test_two_ranks_have_the_gradient_and_the_metrics_of_one(case: str, two_steps: Path) -> None:
    number = CASES.index(case)
    alone, together = (torch.load(two_steps / f"{number}-{ranks}.pt", weights_only=True) for ranks in (1, 2))
    share = 0.55 if "sharded" in case else 1
    assert together["held"] <= share * alone["held"]
    assert 0 < together["moments"] <= share * alone["moments"]
    assert len(alone["steps"]) == len(together["steps"]) == 2
    for one, two in zip(alone["steps"], together["steps"], strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-8)
    assert together["gradients"].keys() == alone["gradients"].keys() != set()
    for name, gradient in alone["gradients"].items():
        difference = (together["gradients"][name] - gradient).norm()
        assert difference <= 1e-5 * gradient.norm() + 1e-8, name
    for name, weight in alone["model"].items():
        torch.testing.assert_close(together["model"][name], weight, rtol=1e-5, atol=1e-6)


def started(folder: Path, *options: str, ranks: int = 2) -> subprocess.Popen[bytes]:
    """The trainer as a group."""
    return torchrun("-m", "trainer", "run", str(folder), *options, ranks=ranks, log=folder / "log.txt")


def curve_of(folder: Path) -> list[float]:
    """The loss of each step, of a step taken twice the last."""
    return list({row.step: row.loss for row in metrics_of(folder) if row.loss is not None}.values())  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("method", [Method.DPO, Method.KTO, Method.BCO])
def test_a_run_of_two_ranks_is_that_of_one(method: Method, make_run: MakeRun) -> None:
    alone, together = make_run("alone", method=method), make_run("together", method=method)
    assert run(alone) == ExitCode.DONE
    assert started(together).wait(timeout=300) == 0, (together / "log.txt").read_text()
    assert_same_run(together, alone)


@pytest.mark.slow
def test_every_rank_keeps_what_lies_below_the_top_layers(make_run: MakeRun) -> None:
    top = QUICK["hyperparameters"].model_copy(update={"tuning": Tuning.LORA_TOP, "lora_layers": 1, "lora_rank": 4})
    alone, together = make_run("alone", hyperparameters=top), make_run("together", hyperparameters=top)
    assert run(alone) == ExitCode.DONE
    assert started(together).wait(timeout=300) == 0, (together / "log.txt").read_text()
    assert_same_run(together, alone)
    assert not list(together.rglob("trunk*")), "and gives it up at the end"


def assert_same_run(folder: Path, other: Path) -> None:
    """Within rounding, from the loss of each step to what came out."""
    ours, theirs = report_of(folder), report_of(other)
    assert (ours.state, ours.train_pairs) == (Outcome.SUCCEEDED, 40)
    assert curve_of(folder) == pytest.approx(curve_of(other), rel=1e-5)
    weights, expected = (load_file(next((each / "model").glob("*.safetensors"))) for each in (folder, other))
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-5)
    for measured, also in ((ours.before, theirs.before), (ours.after, theirs.after)):
        assert measured is not None
        assert also is not None
        assert measured.preferences.accuracy == also.preferences.accuracy
    assert {path.name for path in (folder / "model").iterdir()} == {path.name for path in (other / "model").iterdir()}
    for path in (folder / "model").glob("*.json"):
        assert path.read_bytes() == (other / "model" / path.name).read_bytes()


WAYS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "kto": {"method": Method.KTO},
    "an adapter, the best of it": {
        "hyperparameters": QUICK["hyperparameters"].model_copy(update={"tuning": Tuning.LORA, "lora_rank": 4}),
        "budget": QUICK["budget"].model_copy(update={"stop_after_evaluations": 1}),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_two_ranks_that_share_a_model_is_that_of_one(way: str, make_run: MakeRun) -> None:
    alone, sharded = make_run("alone", **WAYS[way]), make_run("sharded", **WAYS[way])
    assert run(alone) == ExitCode.DONE
    assert started(sharded, "--sharded").wait(timeout=300) == 0, (sharded / "log.txt").read_text()
    assert_same_run(sharded, alone)


@pytest.mark.slow
def test_what_cannot_be_sharded_is_said(make_run: MakeRun) -> None:
    folder = make_run(hyperparameters=QUICK["hyperparameters"].model_copy(update={"tuning": Tuning.LORA_TOP}))
    started(folder, "--sharded").wait(timeout=300)
    report = report_of(folder)
    assert report.state is Outcome.FAILED
    assert "each hold the whole model" in report.message


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
@pytest.mark.parametrize(("killed", "options"), [("leader", []), ("follower", []), ("follower", ["--sharded"])])
def test_a_group_that_loses_a_process_ends_and_its_run_is_taken_up_again(
    killed: str, options: list[str], make_run: MakeRun
) -> None:
    longer = Hyperparameters(epochs=15, learning_rate=1e-3, drift_weight=0.1)
    unbroken, broken = make_run("unbroken", hyperparameters=longer), make_run("broken", hyperparameters=longer)
    assert started(unbroken, *options).wait(timeout=300) == 0
    process = started(broken, *options)
    wait_for(broken, '"step":31,', process)
    children = ranks_of(process)
    os.kill(children["0" if killed == "leader" else "1"].pid, signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    assert not (broken / REPORT_FILE).exists()
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children.values())
    assert started(broken, *options).wait(timeout=300) == 0
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
@pytest.mark.parametrize("options", [[], ["--sharded"]], ids=["whole", "sharded"])
def test_a_fault_on_a_rank_that_follows_is_in_the_report(options: list[str], make_run: MakeRun, tmp_path: Path) -> None:
    folder, elsewhere = make_run(), tmp_path / "elsewhere"
    elsewhere.mkdir()
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "trainer", "run", str(seen), *options],
            cwd=ROOT,
            env={**os.environ, **group, "RANK": str(rank)},
            stdout=(elsewhere / f"{rank}.txt").open("wb"),
        )
        for rank, seen in enumerate([folder, elsewhere])
    ]
    assert [rank.wait(timeout=200) for rank in ranks] == [ExitCode.FAILED, ExitCode.DONE]
    report = report_of(folder)
    assert report.state is Outcome.FAILED
    assert report.message.startswith("Rank 1 of 2 could not prepare: ")
    assert "holds no request.json" in report.message


@pytest.mark.slow
def test_a_run_begun_by_one_process_is_ended_by_two_that_share_the_model(make_run: MakeRun) -> None:
    alone, changing = make_run("alone"), make_run("changing")
    assert run(alone) == ExitCode.DONE
    metrics = changing / METRICS_FILE
    must_leave = lambda: metrics.is_file() and '"step":9,' in metrics.read_text()  # noqa: E731
    assert run(changing, must_leave=must_leave) == ExitCode.INTERRUPTED
    assert started(changing, "--sharded").wait(timeout=300) == 0, (changing / "log.txt").read_text()
    assert report_of(changing).resumed == 1
    assert_same_run(changing, alone)
