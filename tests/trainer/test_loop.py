"""The parts of the training loop that are functions of their arguments."""

from collections import Counter
from typing import Any

import pytest
import torch

from tests.factories.serving import random_model
from trainer.contract.run import Hyperparameters, Method
from trainer.errors import DivergedError
from trainer.groups import Group
from trainer.logps import Scorer, fitting_scorer
from trainer.memory import REFERENCE_BYTES, Limits
from trainer.phases import Phase, batch_indices, limited, phase_at, rate_factor
from trainer.preferences import Objective
from trainer.rankings import Verdict
from trainer.reference import Reference, prepare_reference
from trainer.step import groups_in_parts, training_step


def pair(number: int, *, weight: float = 1.0) -> Group:
    """A pair of which each has its own length and tokens."""
    completions = ((20 + number, 21, 1), (30 + number, 31, 32, 33, 34, 1))
    return Group("p", tuple(range(10, 12 + number)), ("c", "r"), completions, (Verdict((1, 2), (0, 0), weight),))


def ranking(*verdicts: Verdict) -> Group:
    """Four completions with what was said of them."""
    completions = ((20, 21, 1), (30, 31, 32, 1), (40, 1), (50, 51, 52, 53, 1))
    return Group("p", (10, 11, 12), ("a", "b", "c", "d"), completions, verdicts)


def dpo(**settings: Any) -> Objective:
    """DPO with these settings."""
    return Objective(Method.DPO, Hyperparameters(**settings))


def policy_scorer() -> Scorer:
    """A random model to be trained."""
    return fitting_scorer(random_model(seed=4)[0])


def reference_for(groups: list[Group], *, most_bytes: int = REFERENCE_BYTES) -> Reference:
    """A frozen random model that knows all the completions."""
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    return prepare_reference(
        fitting_scorer(random_model(seed=3)[0]),
        sequences,
        table={},
        with_distributions_of=sequences,
        on_progress=lambda share: None,
        most_bytes=most_bytes,
    )[0]


def test_every_pair_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    drawn = [index for step in range(1, 16) for index in batch_indices(step, count=20, size=4, seed=1)]
    epochs = [drawn[start : start + 20] for start in (0, 20, 40)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_batch_may_reach_into_the_next_epoch() -> None:
    drawn = [index for step in range(1, 11) for index in batch_indices(step, count=5, size=3, seed=1)]
    assert Counter(drawn) == dict.fromkeys(range(5), 6)


def test_steps_follow_from_epochs_and_end_at_the_limit() -> None:
    def steps(count: int, epochs: float, most: int | None = None) -> list[int]:
        phase = Phase([pair(number) for number in range(count)], dpo(batch_comparisons=8), epochs, 1e-3)
        return [each.steps for each in limited([phase, phase], most)]

    assert steps(110, 8) == [110, 110]
    assert steps(110, 8, 7) == [7]
    assert steps(110, 8, 117) == [110, 7]
    assert steps(3, 0.1) == [1, 1]
    phases = limited([Phase([pair(1)], dpo(), 4, 1e-3), Phase([pair(2)], dpo(), 2, 1e-3)], 5)
    assert [(phases.index(phase), own) for phase, own in (phase_at(phases, step) for step in range(1, 6))] == [
        (0, 1), (0, 2), (0, 3), (0, 4), (1, 1)
    ]  # fmt: skip


def test_the_rate_rises_through_the_warm_up_and_then_falls_in_a_line() -> None:
    factors = [rate_factor(step, 10, warmup_fraction=0.2) for step in range(1, 11)]
    assert factors == pytest.approx([1 / 2, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])
    assert rate_factor(1, 1, warmup_fraction=0) == pytest.approx(0.5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole() -> None:
    verdicts = (Verdict((2, 1, 2, 3), (0, 0, 0, 0), 0.5), Verdict((1, 2, 3, 4), (0, 0, 0, 0), 0.25))
    groups = [*(pair(number, weight=1 / (1 + number)) for number in range(6)), ranking(*verdicts), pair(0)]
    reference = reference_for(groups)
    gradients, losses = [], []
    for limit in (10**6, 30):
        policy, _ = random_model(seed=4)
        scorer = fitting_scorer(policy.double())
        scorer.limits = Limits(tokens=limit)
        optimizer = torch.optim.SGD(policy.parameters())
        figures = training_step(scorer, optimizer, groups, reference, dpo(max_grad_norm=1e9), rate=0.0, mean_weight=0.4)
        losses.append(figures)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    parts = groups_in_parts(scorer, groups)
    assert len(parts) > 1
    assert Counter(group for part in parts for group in part) == Counter(groups)
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-7, atol=1e-10)


def test_a_pair_of_twice_the_weight_pulls_twice_as_hard() -> None:
    light, heavy = pair(1, weight=0.5), pair(1, weight=1.0)
    reference = reference_for([light])
    settings = dpo(drift_weight=0, max_grad_norm=1e9)
    norms = []
    for one in (light, heavy):
        scorer = policy_scorer()
        optimizer = torch.optim.SGD(scorer.model.parameters())
        figures = training_step(scorer, optimizer, [one], reference, settings, rate=0.0, mean_weight=1.0)
        norms.append(figures["grad_norm"])
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-5)


def test_training_on_a_ranking_brings_its_order_about() -> None:
    group = ranking(Verdict((3, 1, 1, 2), (0, 0, 0, 0), 1.0))
    reference = reference_for([group])
    scorer = policy_scorer()
    optimizer = torch.optim.AdamW(scorer.model.parameters())
    settings = dpo(drift_weight=0, likelihood_weight=0)
    for _ in range(40):
        training_step(scorer, optimizer, [group], reference, settings, rate=1e-3, mean_weight=1.0)
    sequences = group.tree.sequences
    rewards = torch.tensor(scorer.sequence_logps(sequences)) - reference.logps(sequences)
    assert min(rewards[1], rewards[2]) > rewards[3] > rewards[0]


def test_the_drift_term_is_the_same_kept_in_memory_or_computed_anew() -> None:
    pairs = [pair(number) for number in range(4)]
    tokens = sum(group.tree.scored_tokens for group in pairs)
    references = [reference_for(pairs, most_bytes=bytes_kept) for bytes_kept in (REFERENCE_BYTES, tokens * 4 * 100, 0)]
    kept = [(each.kept.distributions is not None, each.kept.hidden is not None) for each in references]
    assert kept == [(True, False), (False, True), (False, False)]
    drifts = []
    for reference in references:
        scorer = policy_scorer()
        optimizer = torch.optim.SGD(scorer.model.parameters())
        figures = training_step(scorer, optimizer, pairs, reference, dpo(), rate=0.0, mean_weight=1.0)
        drifts.append(figures["drift"])
    assert drifts == [pytest.approx(drifts[0], rel=1e-5)] * 3
    assert drifts[0] > 0


def test_the_first_tokens_of_a_completion_may_drift_freely() -> None:
    pairs = [pair(1)]
    reference = reference_for(pairs)
    scorer = policy_scorer()
    optimizer = torch.optim.SGD(scorer.model.parameters())
    settings = dpo(drift_skip_tokens=6)
    figures = training_step(scorer, optimizer, pairs, reference, settings, rate=0.0, mean_weight=1.0)
    assert figures["drift"] == 0


def test_a_loss_that_is_not_a_number_stops_training_with_advice() -> None:
    pairs = [pair(1)]
    reference = reference_for(pairs)
    scorer = policy_scorer()
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight[21] = torch.nan
    optimizer = torch.optim.SGD(scorer.model.parameters())
    with pytest.raises(DivergedError, match="lower learning rate"):
        training_step(scorer, optimizer, pairs, reference, dpo(), rate=0.1, mean_weight=1.0)
