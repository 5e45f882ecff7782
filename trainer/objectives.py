"""What training minimises, as functions of tensors alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F


def dpo_loss(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Direct Preference Optimization loss of each pair, shape (batch,).

    The four arguments are log p(completion | prompt) in nats, summed over the completion's
    tokens, shape (batch,). `beta` is the pull towards the reference model; dimensionless,
    usually 0.1 to 0.5. Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    margins = reward_margins(
        policy_chosen_logps, policy_rejected_logps, reference_chosen_logps, reference_rejected_logps, beta=beta
    )
    return pair_loss(margins)


def reward_margins(
    policy_chosen_logps: Tensor,
    policy_rejected_logps: Tensor,
    reference_chosen_logps: Tensor,
    reference_rejected_logps: Tensor,
    *,
    beta: float,
) -> Tensor:
    """How much more implicit reward the chosen completion has than the rejected one, shape (batch,).

    Arguments as in `dpo_loss`. The implicit reward is beta times the log-ratio to the reference
    (arXiv:2305.18290, section 5.1).
    """
    policy_margins = policy_chosen_logps - policy_rejected_logps
    reference_margins = reference_chosen_logps - reference_rejected_logps
    return beta * (policy_margins - reference_margins)


def pair_loss(margins: Tensor) -> Tensor:
    """Negative log-likelihood of preferring the chosen one, by the difference of rewards (Bradley and Terry 1952)."""
    return -F.logsigmoid(margins)


def plackett_luce_loss(rewards: Tensor, ranks: Sequence[int]) -> Tensor:
    """Negative log-likelihood of a ranking under the model of Plackett (1975) and Luce (1959), a scalar.

    `rewards` has the shape (completions,), `ranks` has 1 for the best, ties equal. With implicit rewards this is DPO
    for rankings (arXiv:2305.18290, appendix A.3, eq. 20), and for two completions it is `pair_loss`. Ties say that
    nobody knows an order: the likelihood is that of all orders which agree with the ranking, summed exactly. So the
    last tie group has no say on itself, and a ranking of nothing but ties none at all.
    """
    tiers = [torch.tensor([at for at, rank in enumerate(ranks) if rank == tier]) for tier in sorted(set(ranks))]
    loss = torch.zeros((), dtype=rewards.dtype)
    for number, tier in enumerate(tiers[:-1]):
        later = torch.cat(tiers[number + 1 :])
        loss = loss - log_probability_of_first(rewards[tier], rewards[later])
    return loss


def log_probability_of_first(firsts: Tensor, others: Tensor) -> Tensor:
    """Log-probability that all of `firsts`, in whatever order, are drawn before any of `others`, a scalar.

    Both are log-weights of items drawn one by one without replacement, each time in proportion to weight. Summed over
    sets of those drawn so far, from the smallest: 2^n of them rather than n! orders.
    """
    if len(firsts) == 1:
        return firsts[0] - torch.cat([firsts, others]).logsumexp(0)
    count = len(firsts)
    drawn = torch.arange(2**count)[:, None] >> torch.arange(count) & 1
    left = firsts.expand(2**count, -1).masked_fill(drawn.bool(), -torch.inf)
    total = torch.cat([left, others.expand(2**count, -1)], dim=1).logsumexp(1)
    reached = firsts.new_zeros(1)
    for sets in _sets_by_size(count):
        ways = reached[sets.place_before] + firsts[sets.last] - total[sets.before]
        reached = ways.logsumexp(1)
    return reached[0]


class _Sets:
    """All sets of one size, and the ways to each of them: from which smaller set (its bits, and its place among those
    of its size), by which last item. Each of shape (sets, size)."""

    def __init__(self, count: int, size: int) -> None:
        smaller = {frozenset(items): place for place, items in enumerate(combinations(range(count), size - 1))}
        before, place_before, last = [], [], []
        for items in combinations(range(count), size):
            rest = [frozenset(items) - {item} for item in items]
            before.append([sum(1 << item for item in each) for each in rest])
            place_before.append([smaller[each] for each in rest])
            last.append(list(items))
        self.before, self.place_before, self.last = map(torch.tensor, (before, place_before, last))


@lru_cache(maxsize=16)
def _sets_by_size(count: int) -> list[_Sets]:
    return [_Sets(count, size) for size in range(1, count + 1)]


def likelihood_loss(chosen_logps: Tensor, chosen_tokens: Tensor) -> Tensor:
    """Negative log-likelihood of each chosen completion in nats per token, shape (batch,).

    Added to a preference loss it keeps the chosen completion probable while the margin grows
    (Pang et al. 2024, arXiv:2404.19733, eq. 2).
    """
    return -chosen_logps / chosen_tokens


def drift_kl(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """KL(reference || policy) at each token in nats, shape (tokens,).

    Both arguments are log-probabilities over the vocabulary, shape (tokens, vocabulary). This direction
    asks the policy to keep covering what the reference would say; it is zero where they agree.
    """
    return (reference_logps.exp() * (reference_logps - policy_logps)).sum(dim=-1)
