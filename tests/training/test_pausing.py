"""A paused run waits without a place in the worker, survives restarts, and ends with the same numbers."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, text

from app.audit import AuditEntry
from app.background import WorkerStopping
from app.errors import Conflict
from app.training.carrying_out import carry_out
from app.training.models import Run, RunState
from app.training.service.requesting import readiness
from app.training.service.scheduling import set_schedule, start_due_runs
from app.training.service.steering import cancel_run, continue_run, pause_run
from tests.conftest import NOW
from tests.training.conftest import LONG, Shop, meanwhile, steps_taken, trainers_of
from tests.training.test_carrying_out import numbers_of, undisturbed
from trainer.contract.files import read_json
from trainer.contract.report import Report
from trainer.contract.run import REPORT_FILE

PAUSED = "Paused. The run goes on from where it is once somebody continues it."


def told(shop: Shop, run_id: int, order: Callable[..., None]) -> bool:
    """Pause, continue or cancel a run, as a manager does."""
    with shop.session() as session:
        order(session, run=session.get_one(Run, run_id), by_id=None, now=NOW)
    return True


def waiting_jobs(shop: Shop) -> int:
    with shop.session() as session:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'training:carry_out' AND status = 'todo'"
        return int(session.scalar(text(query)) or 0)


def take_up(shop: Shop) -> None:
    """Do as the worker does that takes a job."""
    with shop.session() as session:
        session.execute(text("DELETE FROM procrastinate_jobs WHERE task_name = 'training:carry_out'"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.training.carrying_out.PAUSE_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("app.training.carrying_out.LEAVE_SECONDS", 0.0)  # which is for a worker that must stop


def test_a_short_pause_keeps_the_trainer_where_it_is(shop: Shop) -> None:
    run_id, seen = shop.ask(LONG), dict[str, Any]()
    folder = shop.folder(run_id)

    def pause_a_while() -> bool:
        if steps_taken(folder) < 5:
            return False
        told(shop, run_id, pause_run)
        while shop.run(run_id).message != "Paused.":
            time.sleep(0.05)
        seen["trainers"], seen["steps"] = trainers_of(folder), steps_taken(folder)
        time.sleep(1)
        seen["later"] = steps_taken(folder)
        return told(shop, run_id, continue_run)

    with meanwhile(pause_a_while):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert run.state is RunState.SUCCEEDED, run.message
    assert not run.is_paused
    assert len(seen["trainers"]) == 1
    assert seen["later"] == seen["steps"]
    assert Report.model_validate(run.report).resumed == 0


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_long_pause_gives_everything_back_and_the_run_ends_with_the_same_numbers(shop: Shop) -> None:
    run_id = shop.ask(LONG)
    folder = shop.folder(run_id)
    take_up(shop)
    with meanwhile(lambda: steps_taken(folder) > 20 and told(shop, run_id, pause_run)):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    run = shop.run(run_id)
    assert (run.state, run.message, run.is_paused) == (RunState.RUNNING, PAUSED, True)
    assert (trainers_of(folder), waiting_jobs(shop)) == ([], 0), "neither memory nor a place in the worker"
    steps = steps_taken(folder)
    carry_out(shop.place, run_id=run_id)
    assert (trainers_of(folder), steps_taken(folder)) == ([], steps), "a worker that looks again leaves it alone"

    told(shop, run_id, continue_run)
    told(shop, run_id, continue_run)
    assert waiting_jobs(shop) == 1
    take_up(shop)
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    report = read_json(folder / REPORT_FILE, Report)
    assert (report.resumed, steps_taken(folder)) == (1, report.steps)
    assert numbers_of(report) == numbers_of(undisturbed(folder))


def test_a_worker_that_stops_leaves_a_paused_run_paused(shop: Shop) -> None:
    run_id = shop.ask(LONG)
    folder = shop.folder(run_id)

    def pause_and_stop() -> bool:
        if steps_taken(folder) < 5:
            return False
        told(shop, run_id, pause_run)
        while shop.run(run_id).message != "Paused.":
            time.sleep(0.05)
        shop.place.stopping.set()
        return True

    with meanwhile(pause_and_stop), pytest.raises(WorkerStopping):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    assert shop.run(run_id).is_paused
    shop.place.stopping.clear()
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    assert (shop.run(run_id).message, trainers_of(folder)) == (PAUSED, [])


@pytest.mark.usefixtures("impatient")
def test_a_run_that_is_put_aside_can_be_cancelled(shop: Shop) -> None:
    run_id = shop.ask(LONG)
    folder = shop.folder(run_id)
    with meanwhile(lambda: steps_taken(folder) > 5 and told(shop, run_id, pause_run)):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    take_up(shop)
    told(shop, run_id, cancel_run)
    assert waiting_jobs(shop) == 1, "somebody has to take it in"
    carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    assert shop.run(run_id).state is RunState.CANCELLED


def test_a_run_paused_before_it_starts_is_not_begun(shop: Shop) -> None:
    run_id = shop.ask()
    told(shop, run_id, pause_run)
    carry_out(shop.place, run_id=run_id)
    run = shop.run(run_id)
    assert (run.state, run.message, run.started_at) == (RunState.WAITING, "Paused before it started.", None)
    told(shop, run_id, cancel_run)
    assert shop.run(run_id).state is RunState.CANCELLED


def test_a_paused_run_keeps_its_line_and_its_deeds_are_on_record(shop: Shop) -> None:
    run_id = shop.ask()
    told(shop, run_id, pause_run)
    told(shop, run_id, pause_run)
    with shop.session() as session:
        line = session.get_one(Run, run_id).line
        assert (
            readiness(session, line=line).obstacle == f"Run {run_id} on this line is paused. Continue it, or cancel it."
        )
        set_schedule(session, line=line, every=10, by_id=None, now=NOW)
        assert start_due_runs(session, now=NOW) == []
    told(shop, run_id, continue_run)
    told(shop, run_id, cancel_run)
    for order in (pause_run, continue_run):
        with pytest.raises(Conflict, match="is over already"):
            told(shop, run_id, order)
    with shop.session() as session:
        deeds = session.scalars(
            select(AuditEntry.action).where(AuditEntry.subject_type == "Run").order_by(AuditEntry.id)
        )
        assert deeds.all() == ["run.requested", "run.paused", "run.continued", "run.cancelled"]


def test_a_run_that_is_being_cancelled_cannot_be_paused(shop: Shop) -> None:
    run_id = shop.ask()
    with shop.session() as session:
        session.get_one(Run, run_id).state = RunState.RUNNING
    told(shop, run_id, cancel_run)
    with pytest.raises(Conflict, match="is being cancelled"):
        told(shop, run_id, pause_run)
