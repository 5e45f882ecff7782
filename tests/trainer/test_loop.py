"""The parts of the training loop that are functions of their arguments."""

from collections import Counter

import pytest
import torch

from tests.factories.serving import random_model
from trainer import loop as loop_module
from trainer.contract.run import Hyperparameters
from trainer.errors import DivergedError
from trainer.groups import TokenizedPair, Tokens, sides
from trainer.loop import batch_indices, parts_that_fit, planned_steps, rate_factor, training_step
from trainer.reference import Reference, prepare_reference


def pair(number: int, *, weight: float = 1.0) -> TokenizedPair:
    """A pair of which each has its own length and tokens."""
    prompt = tuple(range(10, 12 + number))
    chosen, rejected = (20 + number, 21, 1), (30 + number, 31, 32, 33, 34, 1)
    return TokenizedPair("p", "c", "r", Tokens(prompt, chosen), Tokens(prompt, rejected), weight)


def reference_for(pairs: list[TokenizedPair]) -> Reference:
    """A frozen random model that knows all the pairs."""
    model, _ = random_model(seed=3)
    sequences = sides(pairs)
    return prepare_reference(
        model, sequences, table={}, with_distributions_of=sequences, on_progress=lambda share: None
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
    assert planned_steps(110, batch_pairs=8, epochs=8, limit=None) == 110
    assert planned_steps(110, batch_pairs=8, epochs=8, limit=7) == 7
    assert planned_steps(3, batch_pairs=3, epochs=0.1, limit=None) == 1


def test_the_rate_rises_through_the_warm_up_and_then_falls_in_a_line() -> None:
    factors = [rate_factor(step, 10, warmup_fraction=0.2) for step in range(1, 11)]
    assert factors == pytest.approx([1 / 2, 1, 8 / 9, 7 / 9, 6 / 9, 5 / 9, 4 / 9, 3 / 9, 2 / 9, 1 / 9])
    assert rate_factor(1, 1, warmup_fraction=0) == pytest.approx(0.5)


def test_a_batch_in_parts_has_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair(number, weight=1 / (1 + number)) for number in range(6)]
    reference = reference_for(pairs)
    gradients, losses = [], []
    for limit in (10**6, 60):
        monkeypatch.setattr(loop_module, "TOKENS_PER_FORWARD", limit)
        policy, _ = random_model(seed=4)
        policy.double()
        optimizer = torch.optim.SGD(policy.parameters())
        figures = training_step(
            policy, optimizer, pairs, reference, Hyperparameters(max_grad_norm=1e9), rate=0.0, mean_weight=0.4
        )
        losses.append(figures)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.parameters()]))
    assert len(list(parts_that_fit(pairs, vocabulary=261))) > 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-7, atol=1e-10)


def test_a_pair_of_twice_the_weight_pulls_twice_as_hard() -> None:
    light, heavy = pair(1, weight=0.5), pair(1, weight=1.0)
    reference = reference_for([light])
    settings = Hyperparameters(drift_weight=0, max_grad_norm=1e9)
    norms = []
    for one in (light, heavy):
        policy, _ = random_model(seed=4)
        optimizer = torch.optim.SGD(policy.parameters())
        figures = training_step(policy, optimizer, [one], reference, settings, rate=0.0, mean_weight=1.0)
        norms.append(figures["grad_norm"])
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-5)


def test_the_drift_term_is_the_same_kept_in_memory_or_computed_anew() -> None:
    pairs = [pair(number) for number in range(4)]
    kept = reference_for(pairs)
    anew = Reference(kept.model, kept._table, None)
    drifts = []
    for reference in (kept, anew):
        policy, _ = random_model(seed=4)
        optimizer = torch.optim.SGD(policy.parameters())
        figures = training_step(policy, optimizer, pairs, reference, Hyperparameters(), rate=0.0, mean_weight=1.0)
        drifts.append(figures["drift"])
    assert drifts[0] == pytest.approx(drifts[1], rel=1e-5)
    assert drifts[0] > 0


def test_the_first_tokens_of_a_completion_may_drift_freely() -> None:
    pairs = [pair(1)]
    reference = reference_for(pairs)
    policy, _ = random_model(seed=4)
    optimizer = torch.optim.SGD(policy.parameters())
    settings = Hyperparameters(drift_skip_tokens=6)
    figures = training_step(policy, optimizer, pairs, reference, settings, rate=0.0, mean_weight=1.0)
    assert figures["drift"] == 0


def test_a_loss_that_is_not_a_number_stops_training_with_advice() -> None:
    pairs = [pair(1)]
    reference = reference_for(pairs)
    policy, _ = random_model(seed=4)
    with torch.no_grad():
        policy.get_output_embeddings().weight[21] = torch.nan
    optimizer = torch.optim.SGD(policy.parameters())
    with pytest.raises(DivergedError, match="lower learning rate"):
        training_step(policy, optimizer, pairs, reference, Hyperparameters(), rate=0.1, mean_weight=1.0)
