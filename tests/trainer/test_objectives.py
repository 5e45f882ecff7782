"""The losses, against numbers worked by hand; `test_preferences` has them against TRL."""

import math
from itertools import pairwise, permutations

import pytest
import torch

from trainer.objectives.pairs import (
    apo_down_loss,
    apo_zero_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    orpo_loss,
    robust_dpo_loss,
    simpo_loss,
)
from trainer.objectives.rankings import plackett_luce_loss
from trainer.objectives.terms import drift_kl, likelihood_loss
from trainer.objectives.unpaired import bco_loss, kto_loss

CHOSEN, REJECTED = (torch.tensor([value], dtype=torch.float64) for value in (1.0, -1.5))
"""Log-ratios of one pair: policy and reference say -10 and -11 of the chosen one, -12 and -10.5 of the rejected one."""


def test_the_losses_of_a_pair_are_the_numbers_worked_by_hand() -> None:
    # The margin of rewards at beta 0.1 is 0.1 * (1 + 1.5) = 0.25, and log(1 + e^-0.25) = log 1.778801 = 0.575940.
    assert dpo_loss(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx(0.575940, abs=1e-6)
    # Wanting a margin of 0.25 is no margin left: log 2. A wrong way round costs log(1 + e^0.25) = 0.825940.
    assert dpo_loss(CHOSEN, REJECTED, beta=0.1, margin=0.25).item() == pytest.approx(0.693147, abs=1e-6)
    smoothed = dpo_loss(CHOSEN, REJECTED, beta=0.1, label_smoothing=0.2)
    assert smoothed.item() == pytest.approx(0.8 * 0.575940 + 0.2 * 0.825940, abs=1e-6)
    robust = robust_dpo_loss(CHOSEN, REJECTED, beta=0.1, flip_rate=0.2)
    assert robust.item() == pytest.approx((0.8 * 0.575940 - 0.2 * 0.825940) / 0.6, abs=1e-6)
    assert ipo_loss(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx((2.5 - 5) ** 2)
    assert hinge_loss(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx(0.75)
    assert hinge_loss(CHOSEN, REJECTED, beta=0.5).item() == 0
    # Log-probabilities per token -1 and -1.5: 2 * 0.5 - 0.75 = 0.25 once more.
    per_token = (torch.tensor([-1.0]), torch.tensor([-1.5]))
    assert simpo_loss(*per_token, beta=2.0, gamma=0.75).item() == pytest.approx(0.575940, abs=1e-6)
    # Probabilities 1/2 and 1/4 have odds 1 and 1/3: log(1 + 1/3) = 0.287682.
    halves = (torch.tensor([0.5]).log(), torch.tensor([0.25]).log())
    assert orpo_loss(*halves).item() == pytest.approx(0.287682, abs=1e-6)
    # sigmoid(-0.1) = 0.475021, sigmoid(-0.15) = 0.462570; sigmoid(0.1) = 0.524979, sigmoid(-0.25) = 0.437823.
    assert apo_zero_loss(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx(0.475021 + 0.462570, abs=1e-6)
    assert apo_down_loss(CHOSEN, REJECTED, beta=0.1).item() == pytest.approx(0.524979 + 0.437823, abs=1e-6)


def test_a_robust_loss_over_flipped_verdicts_is_on_average_the_loss_without_them() -> None:
    right = robust_dpo_loss(CHOSEN, REJECTED, beta=0.3, flip_rate=0.1)
    wrong = robust_dpo_loss(REJECTED, CHOSEN, beta=0.3, flip_rate=0.1)
    assert (0.9 * right + 0.1 * wrong).item() == pytest.approx(dpo_loss(CHOSEN, REJECTED, beta=0.3).item())


def test_a_policy_that_is_its_reference_has_the_loss_of_a_coin_toss() -> None:
    assert dpo_loss(torch.zeros(2), torch.zeros(2), beta=0.3).tolist() == pytest.approx([0.693147] * 2, abs=1e-6)


def by_orders(rewards: list[float], ranks: tuple[int, ...]) -> float:
    """The loss of a ranking by drawing every order that agrees with it, one item after the other."""
    likelihood = 0.0
    for order in permutations(range(len(ranks))):
        if all(ranks[one] <= ranks[next_] for one, next_ in pairwise(order)):
            left = list(order)
            probability = 1.0
            for item in order:
                probability *= math.exp(rewards[item]) / sum(math.exp(rewards[other]) for other in left)
                left.remove(item)
            likelihood += probability
    return -math.log(likelihood)


def test_the_plackett_luce_loss_is_the_number_worked_by_hand() -> None:
    # Weights 2, 1, 1, ranked in this order: 2/4 for the first, then 1/2 for the second. -log(1/4) = 1.386294.
    rewards = torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64).log()
    assert plackett_luce_loss(rewards, (1, 2, 3)).item() == pytest.approx(1.386294, abs=1e-6)
    # The first two tied before the third: 2/4 * 1/2 + 1/4 * 2/3 = 5/12. -log(5/12) = 0.875469.
    assert plackett_luce_loss(rewards, (1, 1, 2)).item() == pytest.approx(0.875469, abs=1e-6)


@pytest.mark.parametrize(
    "ranks",
    [
        (1, 2),
        (2, 1),
        (1, 2, 3, 4),
        (2, 1, 2, 3),
        (1, 1, 1, 2),
        (1, 1, 2, 2, 3),
        (3, 1, 1, 1, 1, 2),
        (1, 1, 1, 1, 1, 2, 2),
    ],
)
def test_a_ranking_with_ties_has_the_likelihood_of_all_orders_that_agree_with_it(ranks: tuple[int, ...]) -> None:
    rewards = 2 * torch.randn(len(ranks), dtype=torch.float64, generator=torch.Generator().manual_seed(len(ranks)))
    assert plackett_luce_loss(rewards, ranks).item() == pytest.approx(by_orders(rewards.tolist(), ranks), rel=1e-12)
    assert torch.autograd.gradcheck(lambda given: plackett_luce_loss(given, ranks), rewards.requires_grad_())


@pytest.mark.parametrize("tied", [2, 16, 31, 99])
def test_of_ever_so_many_equal_ones_tied_before_one_the_last_is_last_by_chance(tied: int) -> None:
    rewards = torch.full((tied + 1,), -3.0, dtype=torch.float64, requires_grad=True)
    loss = plackett_luce_loss(rewards, [1] * tied + [2])
    assert loss.item() == pytest.approx(math.log(tied + 1), rel=1e-14)
    loss.backward()  # type: ignore[no-untyped-call]
    assert rewards.grad is not None
    assert rewards.grad.sum().item() == pytest.approx(0, abs=1e-14)
    assert rewards.grad[:-1].numpy() == pytest.approx(rewards.grad[0].item(), rel=1e-12)


@pytest.mark.parametrize("apart", [40.0, 400.0])
def test_ties_of_items_that_are_worlds_apart_are_neither_infinite_nor_nan(apart: float) -> None:
    # Both before the last, whose weight is 1: the one far below has to come before it too, 1 in 1 + e^apart times.
    rewards = torch.tensor([apart, -apart, 0.0], dtype=torch.float64, requires_grad=True)
    loss = plackett_luce_loss(rewards, (1, 1, 2))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(apart, rel=1e-12)
    assert rewards.grad is not None
    assert rewards.grad.tolist() == pytest.approx([0, -1, 1], abs=1e-9)


def test_a_ranking_of_two_is_a_pair_and_one_of_ties_alone_says_nothing() -> None:
    rewards = torch.tensor([0.7, -0.4], dtype=torch.float64)
    assert plackett_luce_loss(rewards, (1, 2)).item() == pytest.approx(
        dpo_loss(rewards[:1], rewards[1:], beta=1.0).item()
    )
    assert plackett_luce_loss(rewards, (1, 1)).item() == 0


def test_likelihoods_of_all_rankings_without_ties_add_up_to_one() -> None:
    rewards = torch.tensor([0.3, -1.2, 0.8, 2.0], dtype=torch.float64)
    total = sum(math.exp(-plackett_luce_loss(rewards, ranks).item()) for ranks in permutations((1, 2, 3, 4)))
    assert total == pytest.approx(1)


def test_the_likelihood_loss_is_per_token() -> None:
    loss = likelihood_loss(torch.tensor([-6.0, -6.0]), torch.tensor([3, 12]))
    assert loss.tolist() == pytest.approx([2.0, 0.5])


def test_drift_is_the_kl_divergence_worked_by_hand() -> None:
    # Reference (1/2, 1/2), policy (1/4, 3/4): 0.5 ln 2 + 0.5 ln (2/3) = 0.346574 - 0.202733 = 0.143841.
    reference = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    policy = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    assert drift_kl(policy, reference).tolist() == pytest.approx([0.143841, 0.0], abs=1e-6)


def test_the_losses_of_completions_by_themselves_are_the_numbers_worked_by_hand() -> None:
    rewards, praise = torch.tensor([0.1, -0.15, 0.4]), torch.tensor([1.0, -0.5, 0.0])
    # Past the anchor of 0.05 by 0.05 and, the other way, by 0.2; a completion of neither kind costs nothing.
    # 1 - sigmoid(0.05) = 0.487503 and 1 - sigmoid(0.2) = 0.450166; -log sigmoid of the same: 0.668460 and 0.598139.
    assert kto_loss(rewards, praise, anchor=0.05).tolist() == pytest.approx([0.487503, 0.225083, 0], abs=1e-6)
    assert bco_loss(rewards, praise, anchor=0.05).tolist() == pytest.approx([0.668460, 0.299070, 0], abs=1e-6)
