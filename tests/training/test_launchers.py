"""The trainer as several processes, started and sent away as the worker does it."""

import time
from pathlib import Path

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
from trainer.contract.run import LOG_FILE, METRICS_FILE, REPORT_FILE, Hyperparameters


def test_the_setting_chooses_the_launcher(settings: Settings) -> None:
    assert launcher_for(settings) == OneProcess()
    assert launcher_for(settings.model_copy(update={"trainer_processes": 3})) == Torchrun(3)
    sharded = launcher_for(settings.model_copy(update={"trainer_processes": 2, "trainer_sharded": True}))
    assert sharded == Torchrun(2, sharded=True)
    assert sharded.command(Path("r"))[-4:] == ["trainer", "run", "r", "--sharded"]


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
    trainer.send_away(patience_seconds=30)
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
