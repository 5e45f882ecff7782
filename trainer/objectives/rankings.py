"""The likelihood of whole rankings, ties included."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor


def plackett_luce_loss(rewards: Tensor, ranks: Sequence[int]) -> Tensor:
    """Negative log-likelihood of a ranking under the model of Plackett (1975) and Luce (1959), a scalar.

    `rewards` has the shape (completions,), `ranks` has 1 for the best, ties equal. With implicit rewards this is DPO
    for rankings (arXiv:2305.18290, appendix A.3, eq. 20), and for two completions it is `dpo_loss`. Ties say that
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
