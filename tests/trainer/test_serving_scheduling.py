"""Turns on the computing thread: who waits for whom, and what becomes of tasks nobody waits for."""

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from trainer.serving.errors import OverloadedError
from trainer.serving.scheduling import Scheduler


class Counting:
    """A task of so many turns that notes each in a list shared by all; the first turn can be held up."""

    def __init__(
        self, name: str, turns: int, notes: list[str], *, choices: int = 1, gate: threading.Event | None = None
    ) -> None:
        self.choices = choices
        self.threads = 1
        self.closed = 0
        self.begun = threading.Event()
        self._name, self._left, self._notes, self._gate = name, turns, notes, gate

    def advance(self) -> bool:
        self.begun.set()
        if self._gate is not None:
            assert self._gate.wait(10)
        self._notes.append(self._name)
        self._left -= 1
        return self._left == 0

    def result(self) -> str:
        return f"{self._name} is done"

    def close(self) -> None:
        self.closed += 1


class Failing(Counting):
    """A task that breaks at its first turn."""

    def advance(self) -> bool:
        raise ZeroDivisionError("no")


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    """Room for four rows at once and three tasks waiting."""
    scheduler = Scheduler(max_choices=4, max_waiting=3)
    scheduler.start()
    yield scheduler
    scheduler.stop()


def test_a_short_task_does_not_wait_for_a_long_one_to_end(scheduler: Scheduler) -> None:
    notes: list[str] = []
    gate = threading.Event()
    long = scheduler.submit(Counting("long", 50, notes, gate=gate))
    short = scheduler.submit(Counting("short", 2, notes))
    gate.set()
    assert short.result(10) == "short is done"
    assert long.result(10) == "long is done"
    assert notes.index("short") <= 2
    assert notes[:5].count("short") == 2


def test_tasks_beyond_the_room_for_rows_wait_their_turn_in_order(scheduler: Scheduler) -> None:
    notes: list[str] = []
    gate = threading.Event()
    tasks = [Counting(name, 2, notes, choices=3, gate=gate) for name in ("first", "second", "third")]
    futures = [scheduler.submit(task) for task in tasks]
    gate.set()
    assert [future.result(10) for future in futures] == ["first is done", "second is done", "third is done"]
    assert notes == ["first", "first", "second", "second", "third", "third"]


def test_a_task_larger_than_the_room_runs_alone(scheduler: Scheduler) -> None:
    assert scheduler.submit(Counting("large", 1, [], choices=9)).result(10) == "large is done"


def test_a_task_that_nobody_waits_for_any_more_is_dropped(scheduler: Scheduler) -> None:
    notes: list[str] = []
    gate = threading.Event()
    running = Counting("running", 1000, notes, choices=4, gate=gate)
    waiting = Counting("waiting", 1, notes)
    futures = [scheduler.submit(running), scheduler.submit(waiting)]
    assert all(future.cancel() for future in futures)
    gate.set()
    assert scheduler.submit(Counting("later", 1, notes)).result(10) == "later is done"
    assert "waiting" not in notes
    assert notes.count("running") <= 1
    assert running.closed == waiting.closed == 1
    with pytest.raises(CancelledError):
        futures[0].result(0)


def test_a_task_that_fails_hands_over_its_error_and_the_next_one_runs(scheduler: Scheduler) -> None:
    failing = Failing("failing", 1, [])
    with pytest.raises(ZeroDivisionError):
        scheduler.submit(failing).result(10)
    assert failing.closed == 1
    assert scheduler.submit(Counting("next", 1, [])).result(10) == "next is done"


def test_a_full_queue_refuses_and_says_so(scheduler: Scheduler) -> None:
    gate = threading.Event()
    running = Counting("running", 1, [], choices=4, gate=gate)
    scheduler.submit(running)
    assert running.begun.wait(10)
    waiting = [scheduler.submit(Counting("waiting", 1, [])) for _ in range(3)]
    refused = Counting("refused", 1, [])
    with pytest.raises(OverloadedError, match="3 requests are waiting"):
        scheduler.submit(refused)
    assert refused.closed == 1
    gate.set()
    assert [future.result(10) for future in waiting] == ["waiting is done"] * 3


def test_stopping_fails_what_waits_and_refuses_what_comes() -> None:
    scheduler = Scheduler(max_choices=1, max_waiting=3)
    gate = threading.Event()
    scheduler.start()
    tasks = [Counting("running", 10**9, [], gate=gate), Counting("waiting", 1, [])]
    futures = [scheduler.submit(task) for task in tasks]
    gate.set()
    scheduler.stop()
    for future in futures:
        with pytest.raises(OverloadedError, match="stopping"):
            future.result(0)
    with pytest.raises(OverloadedError, match="stopping"):
        scheduler.submit(Counting("late", 1, []))
    assert [task.closed for task in tasks] == [1, 1]
    assert not scheduler.alive
