"""When a training ends early, as a function of its evaluations."""

import pytest

from trainer.contract.run import Budget
from trainer.stopping import Progress, why_stop


def after(*evaluations: tuple[float, float] | tuple[float, float, float]) -> Progress:
    """Ten steps apart, each held-out accuracy and margin, and accuracy by the implicit reward."""
    progress = Progress()
    for number, (accuracy, margin, *by_reward) in enumerate(evaluations, start=1):
        figures = {"held_out_accuracy": accuracy, "held_out_margin": margin}
        figures["held_out_reward_accuracy"] = by_reward[0] if by_reward else 0.5
        progress = progress.after(10 * number, figures)
    return progress


def test_the_best_is_the_most_accurate_and_of_equals_that_of_the_larger_margin() -> None:
    assert after((0.6, 0.1), (0.7, 0.2), (0.7, 0.1), (0.65, 0.9)).best_step == 20
    assert after((0.6, 0.1), (0.7, 0.2), (0.7, 0.3)).best_step == 30


def test_training_stops_once_accuracy_has_not_risen_for_so_many_evaluations() -> None:
    patient = Budget(stop_after_evaluations=2)
    assert not why_stop(after((0.6, 0.1), (0.7, 0.2), (0.7, 0.3)), {}, patient)
    stalled = after((0.6, 0.1), (0.7, 0.2), (0.7, 0.3), (0.7, 0.2))
    assert "the weights of step 30" in why_stop(stalled, {}, patient)
    assert not why_stop(stalled, {}, Budget())
    assert not why_stop(after((0.6, 0.1), (0.5, 0.2), (0.61, 0.1)), {}, patient), "it rose again in time"


def test_who_still_learns_by_the_implicit_reward_is_not_stopped() -> None:
    patient = Budget(stop_after_evaluations=2)
    learning = after((0.6, 0.1, 0.5), (0.6, 0.2, 0.6), (0.6, 0.3, 0.6), (0.6, 0.4, 0.7))
    assert not why_stop(learning, {}, patient)
    assert learning.best_step == 40
    assert why_stop(after((0.6, 0.1, 0.5), (0.6, 0.2, 0.6), (0.6, 0.3, 0.6), (0.6, 0.4, 0.6)), {}, patient)


def test_without_held_out_pairs_nothing_stops_it() -> None:
    progress = Progress().after(10, {"loss": 1.0}).after(20, {"loss": 2.0})
    assert progress == Progress()
    assert not why_stop(progress, {"loss": 2.0}, Budget(stop_after_evaluations=1))


@pytest.mark.parametrize(("fall", "most", "stops"), [(1.2, 1.0, True), (0.9, 1.0, False), (5.0, None, False)])
def test_training_stops_where_chosen_completions_become_much_less_likely(
    fall: float, most: float | None, stops: bool
) -> None:
    said = why_stop(Progress(), {"held_out_chosen_fall": fall}, Budget(most_chosen_fall=most))
    assert bool(said) is stops
    assert not stops or "1.20 nats per token" in said
