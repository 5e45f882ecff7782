"""The losses, against numbers worked by hand and against TRL."""

import math
from itertools import pairwise, permutations
from pathlib import Path

import pytest
import torch

from tests.factories.serving import random_model
from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.logps import fitting_scorer
from trainer.objectives import dpo_loss, drift_kl, likelihood_loss, pair_loss, plackett_luce_loss, reward_margins
from trainer.packing import Tokens


def test_the_dpo_loss_is_the_number_worked_by_hand() -> None:
    # Policy: chosen -10, rejected -12, so 2 in favour. Reference: -11 and -10.5, so 0.5 against.
    # Margin at beta 0.1: 0.1 * (2 - (-0.5)) = 0.25. Loss: log(1 + e^-0.25) = log(1.778801) = 0.575940.
    logps = [torch.tensor([value], dtype=torch.float64) for value in (-10.0, -12.0, -11.0, -10.5)]
    assert reward_margins(*logps, beta=0.1).item() == pytest.approx(0.25)
    assert dpo_loss(*logps, beta=0.1).item() == pytest.approx(0.575940, abs=1e-6)


def test_a_policy_that_is_its_reference_has_the_loss_of_a_coin_toss() -> None:
    chosen, rejected = torch.tensor([-3.0, -50.0]), torch.tensor([-9.0, -1.0])
    assert dpo_loss(chosen, rejected, chosen, rejected, beta=0.3).tolist() == pytest.approx([0.693147] * 2, abs=1e-6)


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


def test_a_ranking_of_two_is_a_pair_and_one_of_ties_alone_says_nothing() -> None:
    rewards = torch.tensor([0.7, -0.4], dtype=torch.float64)
    assert plackett_luce_loss(rewards, (1, 2)).item() == pytest.approx(pair_loss(rewards[0] - rewards[1]).item())
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


def test_the_dpo_loss_is_that_of_trl_on_the_same_pairs(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    policy, tokenizer = random_model(seed=1)
    reference, _ = random_model(seed=2)
    pairs = [
        ("How are you?", "Fine, thank you!", "No."),
        ("Name a fruit", "Apple", "A pear, I would say"),
        ("x", "y", "z"),
    ]
    rows = [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for prompt, chosen, rejected in pairs
    ]
    config = DPOConfig(output_dir=str(tmp_path), beta=0.2, use_cpu=True, report_to="none", bf16=False, max_length=128)
    trl_trainer = DPOTrainer(
        policy, reference, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    batch = trl_trainer.data_collator([trl_trainer.train_dataset[index] for index in range(len(pairs))])
    policy.eval()
    theirs = trl_trainer.compute_loss(policy, batch).item()

    sequences = [
        Tokens(
            tuple(prompt_token_ids(tokenizer, [Message(role="user", content=pair[0])])),
            tuple(completion_token_ids(tokenizer, pair[side])),
        )
        for side in (1, 2)
        for pair in pairs
    ]
    sides = [torch.tensor(fitting_scorer(model).sequence_logps(sequences)).chunk(2) for model in (policy, reference)]
    ours = dpo_loss(*sides[0], *sides[1], beta=0.2).mean().item()
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours != pytest.approx(0.693, abs=0.01)
