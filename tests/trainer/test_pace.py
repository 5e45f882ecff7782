"""Speed and time left: nothing while nothing is known, then what the last steps say, then what measuring took."""

import pytest

from trainer.contract.run import Stage
from trainer.pace import WINDOW_SECONDS, WINDOW_STEPS, Pace


def stepped(pace: Pace, step: int, seconds: float, *, total: int = 100, before: float = 20.0) -> dict[str, float]:
    """A step that has taken so many seconds of training, at 50 tokens each."""
    spent = {Stage.BEFORE: before, Stage.TRAINING: seconds}
    return pace.figures(Stage.TRAINING, step / total, spent, {"step": step, "total_steps": total, "tokens": 50 * step})


def test_nothing_is_said_in_the_first_seconds_or_steps() -> None:
    pace = Pace()
    assert [stepped(pace, step, 0.5 * step) for step in range(1, 7)] == [{}] * 6
    slow = Pace()
    assert [stepped(slow, step, 30.0 * step) for step in range(1, 4)] == [{}] * 3


def test_time_left_is_that_of_the_steps_to_come_and_of_measuring_once_more() -> None:
    pace = Pace()
    for step in range(1, 8):
        told = stepped(pace, step, 0.5 * step)
    assert told == {"tokens_per_second": 100.0, "seconds_left": 93 * 0.5 + 20}


def test_only_the_last_steps_count_where_the_speed_changes() -> None:
    pace = Pace()
    seconds = 0.0
    for step in range(1, 401):
        seconds += 10.0 if step <= 50 else 1.0
        told = stepped(pace, step, seconds, total=1000)
    assert told["tokens_per_second"] == 50.0
    assert len(pace._marks) <= max(WINDOW_STEPS, WINDOW_SECONDS) + 2


def test_a_limit_of_seconds_ends_training_before_its_steps_do() -> None:
    pace = Pace()
    pace.most_seconds = 10.0
    for step in range(1, 8):
        told = stepped(pace, step, float(step))
    assert told["seconds_left"] == 10 - 7 + 20


def test_after_training_what_is_left_is_a_part_of_what_measuring_took() -> None:
    assert Pace().figures(Stage.AFTER, 0.25, {Stage.BEFORE: 20.0}, {}) == {"seconds_left": 15.0}
    assert Pace().figures(Stage.BEFORE, 0.25, {Stage.BEFORE: 20.0}, {}) == {}


def test_a_row_that_tells_of_no_step_says_nothing() -> None:
    pace = Pace()
    for step in range(1, 8):
        stepped(pace, step, float(step))
    assert pace.figures(Stage.TRAINING, 0.1, {Stage.BEFORE: 1.0, Stage.TRAINING: 9.0}, {}) == {}
    assert stepped(pace, 8, 8.0)["tokens_per_second"] == pytest.approx(50)
