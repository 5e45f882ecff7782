"""The computing thread: who is let in, who waits for whom, and what becomes of requests nobody waits for."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.factories.serving import decoding_on, lettered_model, served
from trainer.serving.decoding import Decoding
from trainer.serving.errors import QueueFullError, StoppingError
from trainer.serving.scheduling import Scheduler
from trainer.serving.versions import ModelVersion

PROMPT = [3, 76, 73, 80]


@pytest.fixture(scope="module")
def versions() -> list[ModelVersion]:
    """Two versions whose completions end at their limit."""
    return [served(lettered_model("ab", context=4096)) for _ in range(2)]


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    """Room for four completions at once and three requests waiting."""
    scheduler = Scheduler(max_choices=4, max_waiting=3)
    scheduler.start()
    yield scheduler
    scheduler.stop()


class Ask:
    """Submits requests, and notes in which order they ended."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.ended: list[str] = []
        self._scheduler = scheduler
        self._events: dict[str, threading.Event] = {}

    def __call__(self, name: str, version: ModelVersion, **sampling: Any) -> Decoding:
        """Submit a request."""
        event = self._events[name] = threading.Event()
        decoding = decoding_on(version, PROMPT, on_change=lambda: self._note(name, event), **sampling)
        self._scheduler.submit(decoding)
        return decoding

    def _note(self, name: str, event: threading.Event) -> None:
        self.ended.append(name)
        event.set()

    def wait(self, *names: str) -> None:
        """Wait for requests to end."""
        assert all(self._events[name].wait(20) for name in names)


@pytest.fixture
def ask(scheduler: Scheduler) -> Ask:
    return Ask(scheduler)


def held_up(scheduler: Scheduler) -> Callable[[], None]:
    """Keep the computing thread busy until the returned function is called."""
    begun, gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert gate.wait(20)

    scheduler.call(wait, threads=1)
    assert begun.wait(10)
    return gate.set


def test_a_short_request_does_not_wait_for_a_long_one_to_end(ask: Ask, versions: list[ModelVersion]) -> None:
    long = ask("long", versions[0], max_tokens=2000)
    same, other = ask("same", versions[0], max_tokens=5), ask("other", versions[1], max_tokens=5)
    ask.wait("same", "other")
    assert not long.ended
    ask.wait("long")
    assert all(choice.stopped_by == "max_tokens" for decoding in (long, same, other) for choice in decoding.choices)


def test_requests_beyond_the_room_wait_their_turn_in_order(
    scheduler: Scheduler, ask: Ask, versions: list[ModelVersion]
) -> None:
    go_on = held_up(scheduler)
    for number, name in enumerate(["first", "second", "third"]):
        ask(name, versions[number % 2], choices=3, max_tokens=4)
    go_on()
    ask.wait("first", "second", "third")
    assert ask.ended == ["first", "second", "third"]


def test_a_choice_that_has_ended_makes_room_before_its_request_has(ask: Ask, versions: list[ModelVersion]) -> None:
    ask("many", versions[0], choices=4, max_tokens=3000, seed=1, stop=("bbbbbbb",))
    ask("one", versions[1], max_tokens=1)
    ask.wait("one", "many")
    assert ask.ended == ["one", "many"]


def test_a_request_larger_than_the_room_runs_alone(ask: Ask, versions: list[ModelVersion]) -> None:
    large = ask("large", versions[0], choices=9, max_tokens=2)
    ask.wait("large")
    assert len(large.choices) == 9


def test_a_request_that_nobody_waits_for_any_more_is_dropped(
    scheduler: Scheduler, ask: Ask, versions: list[ModelVersion]
) -> None:
    running = ask("running", versions[0], choices=4, max_tokens=4000)
    go_on = held_up(scheduler)
    waiting = ask("waiting", versions[0], max_tokens=2)
    for decoding in (running, waiting):
        scheduler.cancel(decoding)
    assert waiting.ended
    go_on()
    ask("later", versions[0], max_tokens=2)
    ask.wait("running", "later")
    assert waiting.choices[0].token_ids == []
    assert len(running.choices[0].token_ids) < 4000


def test_a_full_queue_refuses_and_those_who_left_it_make_room(
    scheduler: Scheduler, ask: Ask, versions: list[ModelVersion]
) -> None:
    go_on = held_up(scheduler)
    waiting = [ask(f"waiting {number}", versions[0], choices=4, max_tokens=2) for number in range(3)]
    with pytest.raises(QueueFullError, match="3 requests are waiting"):
        ask("refused", versions[0])
    scheduler.cancel(waiting[0])
    ask("let in", versions[0], max_tokens=2)
    go_on()
    ask.wait("waiting 1", "waiting 2", "let in")
    assert "refused" in ask.ended


def test_what_breaks_in_a_version_fails_its_requests_and_no_other(ask: Ask, versions: list[ModelVersion]) -> None:
    breaking = served(lettered_model("ab", context=4096))
    breaking.model.register_forward_pre_hook(lambda *_: 1 / 0)
    broken, sound = ask("broken", breaking), ask("sound", versions[0])
    ask.wait("broken", "sound")
    assert isinstance(broken.error, ZeroDivisionError)
    assert sound.error is None
    ask("next", versions[0])
    ask.wait("next")


def test_work_between_two_turns_hands_over_what_it_finds_or_its_error(scheduler: Scheduler) -> None:
    assert scheduler.call(lambda: 6 * 7, threads=1).result(10) == 42
    with pytest.raises(ZeroDivisionError):
        scheduler.call(lambda: 1 / 0, threads=1).result(10)


def test_stopping_fails_what_waits_and_refuses_what_comes(versions: list[ModelVersion]) -> None:
    scheduler = Scheduler(max_choices=1, max_waiting=3)
    ask = Ask(scheduler)
    scheduler.start()
    decodings = [ask("running", versions[0], max_tokens=4000), ask("waiting", versions[0])]
    scheduler.stop()
    for decoding in decodings:
        assert isinstance(decoding.error, StoppingError)
    with pytest.raises(StoppingError, match="stopping"):
        ask("late", versions[0])
    assert not scheduler.alive
