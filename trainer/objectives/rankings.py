"""The likelihood of whole rankings, ties included."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_EARLIEST, _LATEST, _STEP = -45.0, 6.5, 0.05
"""Logarithms of times, of which the first other item arrives at 1 on average: outside lie less than 1e-19 of all cases,
and up to a hundred tied items the step leaves an error of less than 1e-15."""
_FAR = 36.0
"""So far below zero, z and log(1 - exp(-exp(z))) are the same number in float64."""


def plackett_luce_loss(rewards: Tensor, ranks: Sequence[int]) -> Tensor:
    """Negative log-likelihood of a ranking under the model of Plackett (1975) and Luce (1959), a scalar.

    `rewards` has the shape (completions,), `ranks` has 1 for the best, ties equal. With implicit rewards this is DPO
    for rankings (arXiv:2305.18290, appendix A.3, eq. 20), and for two completions it is `dpo_loss`. Ties say that
    nobody knows an order: the likelihood is that of all orders which agree with the ranking. So the
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

    Both are log-weights of items drawn one by one without replacement, each time in proportion to weight. Such a draw
    is a race (Luce 1959, section 1.E): item i arrives after a time that is exponential with its weight w_i as the rate.
    With the weights of `others` adding up to 1, the first of these arrives at t with density exp(-t), and all of
    `firsts` have by then with probability prod(1 - exp(-w_i t)). The integral of the product over s = log t is smooth
    and falls off steeply at both ends, where the trapezoidal rule is exact to the last digits.
    """
    if len(firsts) == 1:
        return firsts[0] - torch.cat([firsts, others]).logsumexp(0)
    log_times = torch.arange(_EARLIEST, _LATEST, _STEP, dtype=firsts.dtype, device=firsts.device)
    log_arrivals = firsts - others.logsumexp(0) + log_times[:, None]
    density = log_times - log_times.exp()
    return (density + _log_share_arrived(log_arrivals).sum(1)).logsumexp(0) + math.log(_STEP)


def _log_share_arrived(log_arrivals: Tensor) -> Tensor:
    """log(1 - exp(-exp(z))) for each z, which is z itself far below zero and 0 far above."""
    far_below = (log_arrivals + _FAR).clamp(max=0)
    return (-torch.expm1(-log_arrivals.clamp(-_FAR, _LATEST).exp())).log() + far_below
