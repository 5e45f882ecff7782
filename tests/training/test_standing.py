"""The figures at the top of a run's page, in words."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.training.carrying_out import WAITING_TO_GO_ON
from app.training.models import Run, RunState
from app.training.standing import SILENCE, Standing, about, silent_since, standings
from tests.conftest import NOW
from tests.factories.deployments import make_line
from tests.factories.training import make_run
from tests.training.reports import preferences, report, sample
from trainer.contract.report import HeldOutRewards, Report, RewardModelResults
from trainer.contract.run import MetricsRow, Stage


def row(step: int, **given: Any) -> MetricsRow:
    values = {"at": NOW, "stage": Stage.TRAINING, "fraction": 0.4, "step": step, "total_steps": 120, "epoch": 2.6}
    return MetricsRow.model_validate({**values, **given})


BEFORE = row(0, stage=Stage.BEFORE, held_out_accuracy=0.6, sample_kl=0.0)


def told(
    run: Run,
    metrics: list[MetricsRow],
    latest: MetricsRow | None,
    *,
    ended: Report | None = None,
    now: datetime = NOW,
) -> dict[str, Standing]:
    return {each.title: each for each in standings(run, metrics, latest, report=ended, now=now)}


@pytest.fixture
def run(session: Session) -> Run:
    """A run under way."""
    return make_run(session, make_line(session), state=RunState.RUNNING, started_at=NOW)


def test_nothing_is_told_before_there_is_anything(run: Run) -> None:
    assert told(run, [], None) == {}
    first = told(run, [], row(0, stage=Stage.LOADING))
    assert list(first) == ["Time left"]
    assert first["Time left"].figure == "–"


def test_a_run_in_the_middle_says_how_far_how_fast_and_how_well(run: Run) -> None:
    now = row(40, held_out_accuracy=0.75, sample_kl=0.031, tokens_per_second=1090.4, seconds_left=33.0)
    found = told(run, [BEFORE, now], now)
    assert found["Time left"].figure == "about 35 seconds"
    assert found["Step"].figure == "40 of 120"
    assert found["Step"].meaning == "All comparisons have been gone through 2.6 of 8 times."
    assert found["Tokens per second"].figure == "1,090"
    assert found["Agrees with people"].figure == "75 %"
    assert "more than before training (60 %)" in found["Agrees with people"].meaning
    assert found["Distance from the reference"].figure == "0.03"
    assert "usual" in found["Distance from the reference"].meaning


def test_agreement_is_compared_with_that_before(run: Run) -> None:
    for accuracy, words in ((0.5, "fewer than before"), (0.6, "as many as before"), (0.7, "more than before")):
        now = row(40, held_out_accuracy=accuracy)
        assert words in told(run, [BEFORE, now], now)["Agrees with people"].meaning
    assert "before training." in told(run, [BEFORE], BEFORE)["Agrees with people"].meaning


def test_a_paused_run_does_not_count_down_and_one_that_is_over_says_what_it_took(session: Session, run: Run) -> None:
    now = row(40, seconds_left=30.0)
    run.pause_requested = True
    assert told(run, [now], now)["Time left"].figure == "–"
    run.state, run.finished_at = RunState.CANCELLED, NOW + timedelta(minutes=4)
    over = told(run, [now], now)
    assert "Time left" not in over
    assert over["Time taken"].figure == "4 minutes"


def test_time_left_follows_what_the_run_is_doing(run: Run) -> None:
    now = row(40, seconds_left=30.0)
    writing = row(0, stage=Stage.WRITING)
    assert told(run, [now], writing)["Time left"].figure == "nearly done"
    run.cancel_requested = True
    assert "being cancelled" in told(run, [now], now)["Time left"].meaning
    run.cancel_requested, run.message = False, WAITING_TO_GO_ON
    interrupted = told(run, [now], now, now=NOW + timedelta(days=1))["Time left"]
    assert (interrupted.figure, "once a worker" in interrupted.meaning) == ("–", True)
    run.message = "Going on."
    left = row(0, message="Waiting to go on: the trainer was told to leave.")
    assert "once a worker" in told(run, [now], left)["Time left"].meaning, "it is continued, and nobody has begun yet"


def test_a_run_that_has_told_nothing_for_minutes_counts_down_no_more(run: Run) -> None:
    now = row(40, seconds_left=30.0)
    assert told(run, [now], now, now=NOW + SILENCE)["Time left"].figure == "about 30 seconds"
    later = NOW + SILENCE + timedelta(minutes=2)
    silent = told(run, [now], now, now=later)["Time left"]
    assert (silent.figure, silent.meaning) == ("–", "Nothing has been heard of it for 7 minutes.")
    assert silent_since(run, now, now=later) == NOW
    assert silent_since(run, None, now=later) == NOW, "it has been so since it was started"
    run.pause_requested = True
    assert silent_since(run, now, now=later) is None
    run.pause_requested, run.state = False, RunState.CANCELLED
    assert silent_since(run, now, now=later) is None


def test_a_run_taken_up_again_is_at_the_step_that_came_last(run: Run) -> None:
    furthest, since = row(60), row(51, at=NOW + timedelta(minutes=1))
    assert told(run, [row(50), since, furthest], since)["Step"].figure == "51 of 120"
    paused = row(0, message="Paused.")
    assert told(run, [row(50), since, furthest], paused)["Step"].figure == "51 of 120"


def test_steps_tell_demonstrations_from_comparisons(run: Run) -> None:
    run.hyperparameters = {**run.hyperparameters, "demonstration_epochs": 3.0}
    written, judged = row(10, epoch=0.7, loss=2.0), row(40, epoch=0.7, loss=0.5, margin=0.1)
    assert told(run, [written], written)["Step"].meaning == (
        "All demonstrations have been gone through 0.7 of 3 times; comparisons come after them."
    )
    assert told(run, [written, judged], judged)["Step"].meaning == (
        "All comparisons have been gone through 0.7 of 8 times."
    )
    run.method = "sft"
    assert told(run, [written], written)["Step"].meaning == (
        "All demonstrations have been gone through 0.7 of 8 times."
    )


def test_training_that_ended_early_is_told_while_its_result_is_measured(run: Run) -> None:
    last, measuring = row(60, loss=0.4, margin=0.1), row(0, stage=Stage.AFTER, seconds_left=20.0)
    assert "before its last step" in told(run, [last], measuring)["Step"].meaning
    whole = row(120, loss=0.4, margin=0.1)
    assert "gone through" in told(run, [whole], measuring)["Step"].meaning


def test_a_run_that_has_ended_tells_of_its_version_and_not_of_the_last_evaluation(run: Run) -> None:
    best, last = row(40, held_out_accuracy=0.75, sample_kl=0.05), row(100, held_out_accuracy=0.5, sample_kl=0.4)
    run.state, run.finished_at = RunState.SUCCEEDED, NOW
    ended = report(
        before=preferences([1, -1, -1, -1]), after=preferences([1, 1, 1, -1]), samples_after=[sample(drift=0.06)] * 12
    )  # 1 and 3 of 4 pairs
    found = told(run, [BEFORE, best, last], last, ended=ended.model_copy(update={"best_step": 40}))
    assert found["Agrees with people"].figure == "75 %"
    assert "more than before training (25 %)" in found["Agrees with people"].meaning
    assert found["Distance from the reference"].figure == "0.06"
    assert found["Step"].figure == "100 of 120"
    assert found["Step"].meaning == "The version is that of step 40, which agreed best with people."
    found = told(run, [BEFORE, best, last], last, ended=ended)
    assert "gone through" in found["Step"].meaning


def test_a_reward_model_that_has_ended_tells_of_its_own_held_out_pairs(run: Run) -> None:
    sides = [HeldOutRewards(pairs=[], prompts=8, accuracy=accuracy) for accuracy in (0.5, 0.875)]
    results = RewardModelResults(before=sides[0], after=sides[1])
    ended = report().model_copy(update={"before": None, "after": None, "reward_model": results})
    last = row(40, held_out_accuracy=0.6)
    found = told(run, [row(0, stage=Stage.BEFORE, held_out_accuracy=0.5), last], last, ended=ended)
    assert found["Agrees with people"].figure == "88 %"
    assert "Distance from the reference" not in found


def test_where_no_pair_was_kept_aside_that_is_said_with_what_to_do(run: Run) -> None:
    start = row(0, stage=Stage.BEFORE, held_out_pairs=0, sample_kl=0.0)
    assert "Agrees with people" not in told(run, [start], start), "it is being measured"
    now = row(1, loss=0.7)
    nothing = told(run, [start, now], now)["Agrees with people"]
    assert nothing.figure == "–"
    assert "no pairs were kept aside" in nothing.meaning
    assert "more prompts judged" in nothing.meaning
    ended = report(before=preferences([]), after=preferences([]))
    assert told(run, [start, now], now, ended=ended)["Agrees with people"] == nothing


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (3, "a few seconds"),
        (42, "40 seconds"),
        (88, "90 seconds"),
        (95, "2 minutes"),
        (3000, "50 minutes"),
        (9000, "2.5 hours"),
        (90000, "25 hours"),
    ],
)
def test_time_is_told_no_more_exactly_than_it_is_known(seconds: float, words: str) -> None:
    assert about(seconds) == words
