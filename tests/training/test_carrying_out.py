"""A run survives whatever happens to worker and trainer: killed, called off, found again. The real trainer runs."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.unitofwork import UOWTransaction

from app.background import WorkerStopping
from app.deployments.models import Deployment, ModelLine, ModelVersion, VersionKind
from app.deployments.service import current_version, deploy_version
from app.training.carrying_out import MOST_STARTS_IN_VAIN, carry_out
from app.training.models import Run, RunState
from app.training.run_folder import write_request
from app.training.service.requesting import request_run
from app.training.service.steering import cancel_run
from app.training.trainer_process import NICENESS
from tests.conftest import NOW
from tests.training.conftest import LONG, QUICK, Shop, kill_trainers, meanwhile, steps_taken, trainers_of
from trainer.contract.files import read_json
from trainer.contract.report import Report
from trainer.contract.run import (
    LOG_FILE,
    REPORT_FILE,
    REQUEST_FILE,
    Budget,
    ModelRef,
    RunRequest,
    SnapshotRef,
    Tuning,
)


class PowerCut(Exception):
    """The worker is gone."""


@pytest.mark.slow
def test_a_trainer_killed_in_the_middle_goes_on_from_its_checkpoint(shop: Shop) -> None:
    run_id = shop.ask(LONG)
    folder = shop.folder(run_id)
    with meanwhile(lambda: steps_taken(folder) > 20 and kill_trainers(folder) > 0):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert run.state is RunState.SUCCEEDED, run.message
    report = Report.model_validate(run.report)
    assert report.resumed == 1
    assert [row["step"] for row in run.metrics if "loss" in row][-1] == report.steps


def test_a_run_is_called_off_between_two_steps_and_leaves_no_version(shop: Shop) -> None:
    run_id = shop.ask(LONG)

    def cancel() -> bool:
        if steps_taken(shop.folder(run_id)) < 5:
            return False
        with shop.session() as session:
            cancel_run(session, run=session.get_one(Run, run_id), by_id=None, now=NOW)
        return True

    with meanwhile(cancel):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert (run.state, run.model_version_id) == (RunState.CANCELLED, None), run.message
    assert "No model was written" in run.message
    assert trainers_of(shop.folder(run_id)) == []
    shop.ask(QUICK)  # the line is free again


def test_another_worker_takes_up_a_trainer_that_the_first_one_left_behind(shop: Shop) -> None:
    run_id = shop.ask(LONG)
    folder = shop.folder(run_id)

    def cut(session: Session) -> None:
        if steps_taken(folder) > 5:
            raise PowerCut

    event.listen(shop.place.session_factory, "before_commit", cut)
    with pytest.raises(PowerCut):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    event.remove(shop.place.session_factory, "before_commit", cut)
    left_behind = trainers_of(folder)
    assert len(left_behind) == 1
    assert os.getpriority(os.PRIO_PROCESS, left_behind[0]) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS), (
        "whoever judges goes first"
    )
    seen: set[int] = set()

    def watch() -> bool:
        seen.update(trainers_of(folder))
        return False

    with meanwhile(watch, every=0.2):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert run.state is RunState.SUCCEEDED, run.message
    assert seen == set(left_behind), "nobody started a second one"
    assert Report.model_validate(run.report).resumed == 0


@pytest.mark.slow
def test_a_worker_that_stops_sends_its_trainer_away_and_the_next_one_ends_with_the_same_numbers(shop: Shop) -> None:
    run_id = shop.ask(LONG)
    folder = shop.folder(run_id)
    with meanwhile(lambda: steps_taken(folder) > 20 and stop(shop)), pytest.raises(WorkerStopping):
        carry_out(shop.place, run_id=run_id)
    assert trainers_of(folder) == []
    assert not (folder / REPORT_FILE).exists()
    run = shop.run(run_id)
    assert (run.state, run.finished_at) == (RunState.RUNNING, None)
    assert "Waiting to go on" in run.message
    assert max(row["step"] for row in run.metrics) == steps_taken(folder)
    shop.place.stopping.clear()
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    assert shop.run(run_id).state is RunState.SUCCEEDED
    report = read_json(folder / REPORT_FILE, Report)
    assert report.resumed == 1
    assert steps_taken(folder) == report.steps, "no step was taken twice"
    assert numbers_of(report) == numbers_of(undisturbed(folder))


def test_a_trainer_that_does_not_leave_is_killed_and_the_run_goes_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.training.carrying_out.LEAVE_SECONDS", 0.3)
    run_id = shop.ask()
    folder = shop.folder(run_id)

    def deafen_and_stop() -> bool:
        for pid in trainers_of(folder):
            os.kill(pid, signal.SIGSTOP)
            return stop(shop)
        return False

    with meanwhile(deafen_and_stop), pytest.raises(WorkerStopping):
        carry_out(shop.place, run_id=run_id)
    assert trainers_of(folder) == []
    shop.place.stopping.clear()
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    assert shop.run(run_id).state is RunState.SUCCEEDED


def test_stopping_again_and_again_at_the_same_place_is_not_taken_for_a_trainer_that_dies(shop: Shop) -> None:
    run_id = shop.ask()
    folder = shop.folder(run_id)
    for _ in range(MOST_STARTS_IN_VAIN + 3):
        shop.place.stopping.clear()
        with meanwhile(lambda: bool(trainers_of(folder)) and stop(shop)), pytest.raises(WorkerStopping):
            carry_out(shop.place, run_id=run_id)
    shop.place.stopping.clear()
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    assert shop.run(run_id).state is RunState.SUCCEEDED


def test_a_worker_that_stops_before_the_trainer_is_started_starts_none(shop: Shop) -> None:
    run_id = shop.ask()
    stop(shop)
    with pytest.raises(WorkerStopping):
        carry_out(shop.place, run_id=run_id)
    assert not (shop.folder(run_id) / LOG_FILE).exists()
    assert shop.run(run_id).state is RunState.RUNNING


def test_a_worker_killed_between_registering_and_deploying_leaves_neither_and_the_next_does_both(shop: Shop) -> None:
    run_id = shop.ask()

    def cut(session: Session, _: UOWTransaction) -> None:
        if any(isinstance(row, ModelVersion) for row in session.new):
            raise PowerCut

    event.listen(shop.place.session_factory, "after_flush", cut)
    with pytest.raises(PowerCut):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    event.remove(shop.place.session_factory, "after_flush", cut)
    assert counted(shop) == (1, 1), "the base alone"
    assert shop.run(run_id).state is RunState.RUNNING
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    blocked = any(check["blocks"] for check in run.gate or [])
    assert run.state is RunState.SUCCEEDED
    assert counted(shop) == (2, 1 if blocked else 2)


@pytest.mark.race
def test_two_workers_on_one_run_make_one_version(shop: Shop) -> None:
    run_id = shop.ask()
    workers = [
        threading.Thread(target=carry_out, args=(shop.place,), kwargs={"run_id": run_id, "poll_seconds": 0.2})
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    run = shop.run(run_id)
    assert run.state is RunState.SUCCEEDED, run.message
    assert counted(shop)[0] == 2


def test_a_trainer_that_keeps_dying_ends_the_run_with_the_end_of_its_log(shop: Shop) -> None:
    run_id = shop.ask()
    folder = shop.folder(run_id)
    killed = []

    def kill() -> bool:
        killed.append(kill_trainers(folder))
        return False

    with meanwhile(kill):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.1)
    run = shop.run(run_id)
    assert run.state is RunState.FAILED
    assert "died 4 times at the same place" in run.message
    assert "exit status -9" in run.message
    assert sum(killed) == 4


def test_a_run_that_cannot_succeed_says_why_and_frees_its_line(shop: Shop) -> None:
    run_id = shop.ask()
    with shop.session() as session:
        run = session.get_one(Run, run_id)
        session.execute(ModelVersion.__table__.update().values(sha256="0" * 64))
        assert run.state is RunState.WAITING
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert (run.state, run.model_version_id) == (RunState.FAILED, None)
    assert "tiny-v0" in run.message
    assert run.report is not None


def test_a_run_called_off_before_the_worker_came_never_starts(shop: Shop) -> None:
    run_id = shop.ask()
    with shop.session() as session:
        cancel_run(session, run=session.get_one(Run, run_id), by_id=None, now=NOW)
    carry_out(shop.place, run_id=run_id)
    assert shop.run(run_id).state is RunState.CANCELLED
    assert not shop.folder(run_id).exists()


def test_a_folder_of_an_earlier_installation_is_not_mistaken_for_the_run(shop: Shop) -> None:
    run_id = shop.ask()
    folder = shop.folder(run_id)
    model = ModelRef(name="other-v0", path="/other", sha256="a")
    other = RunRequest(
        run_id=str(run_id),
        version_name="other-v1",
        snapshot=SnapshotRef(path="/snapshots/1", rows_sha256="b"),
        base_model=model,
        start=model,
        reference=model,
    )
    write_request(folder, other)
    carry_out(shop.place, run_id=run_id)
    run = shop.run(run_id)
    assert run.state is RunState.FAILED
    assert "holds another run (other-v1). Move it away" in run.message


def stop(shop: Shop) -> bool:
    """Tell the worker to stop, as SIGTERM does."""
    shop.place.stopping.set()
    return True


def undisturbed(folder: Path) -> Report:
    """The report of the same request carried out beside it, from end to end."""
    beside = folder.with_name(f"{folder.name}-undisturbed")
    beside.mkdir()
    shutil.copy(folder / REQUEST_FILE, beside / REQUEST_FILE)
    subprocess.run([sys.executable, "-m", "trainer", "run", str(beside)], check=True, capture_output=True)
    return read_json(beside / REPORT_FILE, Report)


def numbers_of(report: Report) -> dict[str, object]:
    """What must not depend on interruptions: all but times, the hash of the weights included."""
    return report.model_dump(exclude={"started_at", "finished_at", "resumed", "seconds"})


def counted(shop: Shop) -> tuple[int, int]:
    """How many versions and deployments there are."""
    with shop.session() as session:
        count = [session.scalar(select(func.count()).select_from(table)) or 0 for table in (ModelVersion, Deployment)]
    return count[0], count[1]


def test_a_line_at_an_adapter_is_trained_on_from_it_and_keeps_its_base(shop: Shop) -> None:
    lora = QUICK.model_copy(update={"tuning": Tuning.LORA, "learning_rate": 1e-2})
    run_id = shop.ask(lora)
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    with shop.session() as session:
        first = session.get_one(Run, run_id)
        assert first.state is RunState.SUCCEEDED, first.message
        version = first.model_version
        assert version is not None
        assert version.kind is VersionKind.ADAPTER
        assert version.base is not None
        assert version.base.name == "tiny-v0"
        deploy_version(session, version=version, reason="For a test", by_id=None, now=NOW)
        stated = Path(version.path) / "base_model.json"
        stated.write_text(stated.read_text().replace(version.base.path, "/where/it/was/once"))
        line = session.get_one(ModelLine, shop.line_id)
        assert current_version(session, line_id=line.id) is version
        second_id = request_run(
            session, line=line, person=None, now=NOW, start="current", hyperparameters=QUICK, budget=Budget(threads=1)
        ).id
    carry_out(shop.place, run_id=second_id, poll_seconds=0.2)
    with shop.session() as session:
        second = session.get_one(Run, second_id)
        assert second.state is RunState.SUCCEEDED, second.message
        assert second.gate
        version = second.model_version
        assert version is not None
        assert (version.kind, version.parent) == (VersionKind.ADAPTER, second.start_version)
        assert version.base is not None
        assert version.base.name == "tiny-v0"
