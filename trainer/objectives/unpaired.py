"""Losses of completions each by itself, found good or bad.

`rewards` are beta times log-ratios, `praise` how good each was found, from -1 to 1 (its size is a weight); both, and
the loss, have the shape (completions,). `anchor` is the reward that is neither good nor bad: a number, no part of the
gradient.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def kto_loss(rewards: Tensor, praise: Tensor, *, anchor: float) -> Tensor:
    """Kahneman-Tversky Optimization: the value of gains and losses against what is usual, flat far from it.

    `anchor` is beta times the KL of policy to reference, estimated on completions of other prompts, at least 0. Source:
    Ethayarajh et al. 2024, arXiv:2402.01306, eq. 7 and 8, both kinds of completions weighing the same.
    """
    return praise.abs() * (1 - (praise.sign() * (rewards - anchor)).sigmoid())


def bco_loss(rewards: Tensor, praise: Tensor, *, anchor: float) -> Tensor:
    """Binary Classifier Optimization: a classifier of good and bad, whose logit is the reward less its running mean.

    Source: Jung et al. 2024, arXiv:2404.04656, eq. 12 with the shift of eq. 13.
    """
    return -praise.abs() * F.logsigmoid(praise.sign() * (rewards - anchor))
