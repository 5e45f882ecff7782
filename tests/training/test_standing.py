"""The figures at the top of a run's page, in words."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from app.training.models import Run, RunState
from app.training.standing import Standing, about, standings
from tests.conftest import NOW
from tests.factories.deployments import make_line
from tests.factories.training import make_run
from trainer.contract.run import MetricsRow, Stage


def row(step: int, **given: Any) -> MetricsRow:
    values = {"at": NOW, "stage": Stage.TRAINING, "fraction": 0.4, "step": step, "total_steps": 120, "epoch": 2.6}
    return MetricsRow.model_validate({**values, **given})


BEFORE = row(0, stage=Stage.BEFORE, held_out_accuracy=0.6, sample_kl=0.0)


def told(run: Run, metrics: list[MetricsRow], latest: MetricsRow | None) -> dict[str, Standing]:
    return {each.title: each for each in standings(run, metrics, latest)}


@pytest.fixture
def run(session: Session) -> Run:
    """A run under way."""
    return make_run(session, make_line(session), state=RunState.RUNNING, started_at=NOW)


def test_nothing_is_told_before_there_is_anything(run: Run) -> None:
    assert standings(run, [], None) == []
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
