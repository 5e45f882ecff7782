"""The trainer as several processes, started and sent away as the worker does it."""

import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.settings import Settings
from app.training.launchers import OneProcess, Torchrun, launcher_for
from app.training.trainer_process import TrainerProcess
from tests.factories.serving import random_model, save
from tests.factories.snapshots import write_run, write_snapshot
from tests.trainer.conftest import QUICK, vowel_rows
from trainer.contract.files import read_json
from trainer.contract.report import Outcome, Report
from trainer.contract.run import LOG_FILE, METRICS_FILE, REPORT_FILE, Hyperparameters, Method, RunRequest, Tuning


@pytest.fixture
def request_of(tmp_path: Path) -> Callable[..., RunRequest]:
    """A run's request, with settings of the test's choice."""
    snapshot = write_snapshot(tmp_path / "snapshot", train=vowel_rows(4, seed=1), held_out=vowel_rows(4, seed=2))
    model = save(tmp_path / "tiny-v0", random_model())
    names = count()

    def written(**fields: Any) -> RunRequest:
        return write_run(tmp_path / f"run-{next(names)}", snapshot=snapshot, model=model, **{**QUICK, **fields})

    return written


def test_the_setting_chooses_the_launcher(settings: Settings, request_of: Callable[..., RunRequest]) -> None:
    request = request_of()
    assert launcher_for(settings, request) == OneProcess()
    assert launcher_for(settings.model_copy(update={"trainer_processes": 3}), request) == Torchrun(3)
    sharded = launcher_for(settings.model_copy(update={"trainer_processes": 2, "trainer_sharded": True}), request)
    assert sharded == Torchrun(2, sharded=True)
    assert sharded.command(Path("r"))[-4:] == ["trainer", "run", "r", "--sharded"]


def test_a_run_that_cannot_be_carried_out_as_set_is_as_far_as_it_can(
    settings: Settings, request_of: Callable[..., RunRequest]
) -> None:
    sharded = settings.model_copy(update={"trainer_processes": 2, "trainer_sharded": True})
    top_layers = QUICK["hyperparameters"].model_copy(update={"tuning": Tuning.LORA_TOP})
    assert launcher_for(sharded, request_of(hyperparameters=top_layers)) == Torchrun(2)
    assert launcher_for(sharded, request_of(method=Method.REWARD_MODEL)) == OneProcess()


class Slow:
    """Starts a process that takes a second and a half to leave, and ends with 0 then."""

    def command(self, folder: Path) -> list[str]:
        """It says so in the log once it listens."""
        leave = "signal.signal(15, lambda *_: (time.sleep(1.5), os._exit(0)))"
        return [sys.executable, "-c", f"import os, signal, time; {leave}; print('listens', flush=True); time.sleep(60)"]


def test_a_trainer_may_take_its_time_to_leave_until_the_worker_is_in_a_hurry(tmp_path: Path) -> None:
    def sent_away(most_seconds: Callable[[], float]) -> int | None:
        trainer = TrainerProcess(tmp_path, Slow())
        trainer.start()
        wait_for_log(tmp_path, "listens")
        (tmp_path / LOG_FILE).unlink()
        trainer.send_away(most_seconds=most_seconds)
        return trainer.exit_status()

    assert sent_away(lambda: 30) == 0
    hurried_at = time.monotonic() + 1
    assert sent_away(lambda: 30 if time.monotonic() < hurried_at else 0.1) != 0, "it was killed"


def wait_for_log(folder: Path, text: str) -> None:
    """Until the log holds `text`."""
    until = time.monotonic() + 30
    while text not in (folder / LOG_FILE).read_text():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for(folder: Path, text: str, trainer: TrainerProcess) -> None:
    """Until a line of the metrics holds `text`."""
    until = time.monotonic() + 300
    while not ((folder / METRICS_FILE).is_file() and text in (folder / METRICS_FILE).read_text()):
        assert trainer.exit_status() is None, (folder / LOG_FILE).read_text()
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_until_gone(trainer: TrainerProcess) -> None:
    """Until neither torchrun nor whoever holds the run is left."""
    until = time.monotonic() + 60
    while trainer.is_alive():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_a_group_is_sent_away_killed_and_goes_on_to_its_report(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    snapshot = write_snapshot(tmp_path / "snapshot", train=vowel_rows(40, seed=1), held_out=vowel_rows(8, seed=2))
    settings = Hyperparameters(epochs=60, learning_rate=1e-3, drift_weight=0.1)
    write_run(
        folder,
        snapshot=snapshot,
        model=save(tmp_path / "tiny-v0", random_model()),
        **{**QUICK, "hyperparameters": settings},
    )
    trainer = TrainerProcess(folder, Torchrun(2))
    trainer.start()
    wait_for(folder, '"step":8,', trainer)
    assert trainer.is_alive()
    trainer.send_away(most_seconds=lambda: 30)
    wait_until_gone(trainer)
    assert not (folder / REPORT_FILE).exists()
    assert "told to leave" in (folder / METRICS_FILE).read_text()

    trainer.start()
    reached = (folder / METRICS_FILE).read_text().count('"stage":"training"')
    while (folder / METRICS_FILE).read_text().count('"stage":"training"') < reached + 6:
        assert trainer.exit_status() is None, (folder / LOG_FILE).read_text()
        time.sleep(0.05)
    trainer.kill()
    wait_until_gone(trainer)
    mine = [each for each in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(each.info["cmdline"] or [])]
    assert not psutil.wait_procs(mine, timeout=30)[1], "nobody is left behind"

    trainer.start()
    until = time.monotonic() + 300
    while not (folder / REPORT_FILE).is_file() and time.monotonic() < until:
        time.sleep(0.1)
    report = read_json(folder / REPORT_FILE, Report)
    assert (report.state, report.resumed) == (Outcome.SUCCEEDED, 2)
    wait_until_gone(trainer)
