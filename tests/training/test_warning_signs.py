"""Each warning comes where its figures say so, says what to do, and is silent in a training that goes well."""

import re
from typing import Any, ClassVar

import pytest

from app.training.warning_signs import SIGNS, Warned, last_evaluation, warnings_of
from tests.conftest import NOW
from trainer.contract.run import MetricsRow, Stage

START = {
    "held_out_accuracy": 0.5,
    "held_out_pairs": 25,
    "held_out_margin": None,
    "held_out_chosen_logp": -20.0,
    "held_out_rejected_logp": -20.0,
    "sample_kl": 0.0,
    "sample_tokens": 20.0,
    "sample_unfinished": 0.0,
    "sample_repetition": 0.01,
    "sample_distinct": 0.9,
}
"""What the start was measured as."""

Look = dict[str, float | None]


def row(step: int, **given: Any) -> MetricsRow:
    """A row of a training of 120 steps whose loss falls."""
    stage = Stage.TRAINING if step else Stage.BEFORE
    loss = {"loss": 0.9 - 0.004 * step} if step else {}
    return MetricsRow.model_validate(
        {"at": NOW, "stage": stage, "fraction": 0.4, "step": step, "total_steps": 120, **loss, **given}
    )


def training(*looks: Look, start: Look | None = None, **of_steps: Any) -> list[MetricsRow]:
    """The start, and an evaluation every 20 steps in which all is well but for what is given."""
    good = {**START, "held_out_margin": 0.4, "held_out_accuracy": 0.7, "sample_kl": 0.05}
    rows = [row(0, **{**START, **(start or {})})]
    for place, look in enumerate(looks, start=1):
        steps = range(20 * (place - 1) + 1, 20 * place + 1)
        rows += [row(step, **of_steps, **({**good, **look} if step == 20 * place else {})) for step in steps]
    return rows


def names(rows: list[MetricsRow]) -> list[str]:
    return [warned.name for warned in warnings_of(rows)]


def test_a_training_that_goes_well_is_not_warned_of() -> None:
    assert names(training({}, {"held_out_accuracy": 0.74}, {"held_out_accuracy": 0.7}, {"sample_tokens": 26.0})) == []


def test_nothing_is_warned_of_without_figures() -> None:
    assert names([]) == []
    assert names(training()) == []
    assert names([row(step) for step in range(1, 100)]) == []
    nothing: Look = dict.fromkeys(START)
    accuracies = [{**nothing, "held_out_accuracy": accuracy} for accuracy in (0.5, 0.6, 0.6, 0.6)]
    assert names(training(*accuracies[1:], start=accuracies[0])) == []


@pytest.mark.parametrize(
    ("name", "bad", "well"),
    [
        ("repeats", {"sample_repetition": 0.12}, {"sample_repetition": 0.10}),
        ("same", {"sample_distinct": 0.5}, {"sample_distinct": 0.58}),
        ("far", {"sample_kl": 0.26}, {"sample_kl": 0.24}),
    ],
)
def test_what_the_samples_show_is_warned_of_at_once(name: str, bad: Look, well: Look) -> None:
    assert names(training({}, well)) == []
    (warned,) = warnings_of(training({}, bad))
    assert (warned.name, warned.first_step, warned.last_step) == (name, 40, 40)


@pytest.mark.parametrize(
    ("name", "bad", "well"),
    [
        ("longer", {"sample_tokens": 33.0}, {"sample_tokens": 32.0}),
        ("shorter", {"sample_tokens": 12.0}, {"sample_tokens": 13.0}),
        ("endless", {"sample_unfinished": 0.25}, {"sample_unfinished": 0.24}),
    ],
)
def test_what_a_dozen_samples_may_show_by_chance_is_warned_of_where_two_evaluations_show_it(
    name: str, bad: Look, well: Look
) -> None:
    assert names(training({}, well, well)) == []
    assert names(training({}, bad)) == []
    assert names(training({}, bad, {}, bad)) == []
    (warned,) = warnings_of(training({}, bad, bad))
    assert (warned.name, warned.first_step, warned.last_step) == (name, 60, 60)


def test_a_few_tokens_more_are_nothing_where_completions_are_short() -> None:
    start: Look = {"sample_tokens": 3.0}
    assert names(training({"sample_tokens": 8.0}, {"sample_tokens": 8.0}, start=start)) == []
    assert names(training({"sample_tokens": 9.0}, {"sample_tokens": 9.0}, start=start)) == ["longer"]


def test_longer_once_and_shorter_once_is_neither() -> None:
    assert names(training({"sample_tokens": 40.0}, {"sample_tokens": 8.0})) == []


def test_agreement_that_stays_below_its_best_is_warned_of_since_that_step() -> None:
    rows = training({"held_out_accuracy": 0.8}, {"held_out_accuracy": 0.68}, {"held_out_accuracy": 0.64})
    (warned,) = warnings_of(rows)
    assert (warned.name, warned.first_step) == ("by_heart", 60)
    assert "since step 20: 64 % of the pairs kept aside, then 80 %" in warned.sentence
    once = training({"held_out_accuracy": 0.8}, {"held_out_accuracy": 0.64}, {"held_out_accuracy": 0.8})
    assert names(once) == [], "one evaluation alone may be chance"
    two_pairs = training(*[{"held_out_accuracy": accuracy} for accuracy in (0.8, 0.72, 0.72)])
    assert names(two_pairs) == [], "two of 25 pairs may be chance"
    many = training(*[{"held_out_accuracy": accuracy, "held_out_pairs": 128} for accuracy in (0.8, 0.72, 0.72)])
    assert names(many) == ["by_heart"]
    ever_worse = training({"held_out_accuracy": 0.36}, {"held_out_accuracy": 0.36})
    assert names(ever_worse) == ["by_heart"], "worse than before training from the first evaluation on"


def test_chosen_completions_that_grow_unlikely_are_warned_of_where_the_margin_grows() -> None:
    fallen: Look = {"held_out_chosen_logp": -22.5}
    (warned,) = warnings_of(training({}, fallen, fallen))
    assert (warned.name, warned.first_step) == ("chosen_falls", 60)
    assert "its log-probability was -20.0 nats at first and is -22.5 now" in warned.sentence
    assert names(training({}, {"held_out_chosen_logp": -21.5}, {"held_out_chosen_logp": -21.5})) == []
    assert names(training({}, fallen, {})) == []
    no_margin: Look = {**fallen, "held_out_margin": -0.1}
    assert names(training({}, no_margin, no_margin)) == []


def test_a_loss_that_stands_still_is_warned_of_once_the_warm_up_is_over() -> None:
    (warned,) = warnings_of(training({}, {}, {}, loss=0.9))
    assert (warned.name, warned.first_step, warned.last_step) == ("no_progress", 40, 60)
    assert "the loss was 0.9 at first and is 0.9 now" in warned.sentence
    assert names(training({}, loss=0.9)) == [], "20 steps are too few to tell"


def test_a_loss_that_rises_where_preferences_follow_demonstrations_is_nothing() -> None:
    demonstrations = [
        each.model_copy(update={"loss": each.loss and each.loss / 2}) for each in training({}, {}, {}, {})[:41]
    ]
    assert names(demonstrations + training({}, {}, {}, {}, margin=0.1)[41:]) == []
    still = training({}, {})[:41] + training({}, {}, {}, {}, {}, loss=0.9, margin=0.1)[41:]
    assert [warned.first_step for warned in warnings_of(still)] == [80], "of preferences there must be enough, too"


def test_a_warning_that_passes_is_kept_with_the_steps_at_which_it_was_so() -> None:
    rows = training({}, {"sample_kl": 0.4}, {"sample_kl": 0.3}, {})
    (warned,) = warnings_of(rows)
    assert (warned.first_step, warned.last_step, last_evaluation(rows)) == (40, 60, 80)
    assert "0.30 nats" in warned.sentence, "as it was when it was last so"


def test_a_warning_lasts_over_an_evaluation_at_which_nothing_was_drawn() -> None:
    undrawn: Look = {name: None for name in START if name.startswith("sample_")}
    (warned,) = warnings_of(training({}, {"sample_kl": 0.4}, undrawn))
    assert (warned.first_step, warned.last_step) == (40, 60)
    (warned,) = warnings_of(training({}, {"sample_kl": 0.4}, undrawn, {}))
    assert (warned.first_step, warned.last_step) == (40, 60)


def test_warnings_come_in_the_order_in_which_they_were_due() -> None:
    assert names(training({}, {"sample_kl": 0.4}, {"sample_kl": 0.4, "sample_repetition": 0.5})) == ["far", "repeats"]


@pytest.mark.parametrize("on_demonstrations", [False, True])
@pytest.mark.parametrize("name", SIGNS)
def test_every_warning_is_a_sentence_with_advice(name: str, *, on_demonstrations: bool) -> None:
    figures = dict.fromkeys(("now", "before", "bound", "step", "best", "first", "last"), "7")
    warned = Warned(name=name, first_step=20, last_step=40, figures=figures, on_demonstrations=on_demonstrations)
    said = warned.sentence
    assert said.count(". ") + said.endswith(".") >= 2
    assert "%(" not in said
    if on_demonstrations:
        assert not re.search("weight|judgment|preferred", said), "demonstrations are learnt without any of these"


def test_advice_is_for_what_is_learnt_when_it_is_first_due() -> None:
    bad: list[Look] = [{}, {"sample_kl": 0.4, "sample_distinct": 0.1}]
    for margin in (None, 0.1):
        warned = warnings_of(training(*bad, margin=margin))
        assert [each.name for each in warned] == ["same", "far"]
        weighs = margin is not None
        assert [("a higher drift weight" in each.sentence) for each in warned] == [weighs, weighs]
    demonstrations_first = training(*bad)[:41] + training(*bad, *bad, margin=0.1)[41:]
    assert [each.on_demonstrations for each in warnings_of(demonstrations_first)] == [True, True]


class Read(MetricsRow):
    """A row, counting with all others how often anything of it is looked at."""

    times: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> Any:
        Read.times += 1
        return super().__getattribute__(name)


def test_four_times_as_long_a_run_takes_four_times_as_much_looking() -> None:
    counts = []
    for evaluations in (50, 200):
        rows = [Read.model_validate(each.model_dump()) for each in training(*[{}] * evaluations, margin=0.1)]
        Read.times = 0
        warnings_of(rows)
        counts.append(Read.times)
    assert counts[0] > 1000, "there is something to look at"
    assert counts[1] < 4.5 * counts[0]
