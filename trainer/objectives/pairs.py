"""Losses of pairs of completions, of which one was preferred.

Arguments are tensors of the shape (pairs,), and so is the loss. `chosen` and `rejected` are log-ratios to the reference
unless a name says otherwise; `beta` is the pull towards the reference, dimensionless, usually 0.1 to 0.5.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float,
    margin: Tensor | float = 0.0,
    label_smoothing: Tensor | float = 0.0,
) -> Tensor:
    """Direct Preference Optimization. Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.

    `margin` is how much more reward the chosen one should have, as in Llama 2's reward model (arXiv:2307.09288, eq. 2).
    `label_smoothing` is the share of verdicts that are thought to be the wrong way round (conservative DPO, Mitchell
    2023): a wrong one pulls back.
    """
    rewards = beta * (chosen - rejected) - margin
    return -(1 - label_smoothing) * F.logsigmoid(rewards) - label_smoothing * F.logsigmoid(-rewards)


def robust_dpo_loss(chosen: Tensor, rejected: Tensor, *, beta: float, flip_rate: float) -> Tensor:
    """DPO that, on average over verdicts of which a share `flip_rate` (below 0.5) is the wrong way round, is what it
    would be without these. Source: Chowdhury et al. 2024, arXiv:2403.00409.
    """
    rewards = beta * (chosen - rejected)
    return -((1 - flip_rate) * F.logsigmoid(rewards) - flip_rate * F.logsigmoid(-rewards)) / (1 - 2 * flip_rate)


def ipo_loss(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Identity Preference Optimization: the margin is led to 1 / (2 beta) and no further.

    Log-ratios are per token here, which the authors confirmed to be what their results were made with. Source: Azar et
    al. 2023, arXiv:2310.12036, eq. 17.
    """
    return (chosen - rejected - 1 / (2 * beta)) ** 2


def hinge_loss(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """No more pull once the margin of rewards is 1. Source: Zhao et al. 2023 (SLiC-HF), arXiv:2305.10425, with rewards
    to a reference as in Liu et al. 2023 (RSO), arXiv:2309.06657.
    """
    return F.relu(1 - beta * (chosen - rejected))


def simpo_loss(chosen_logps: Tensor, rejected_logps: Tensor, *, beta: float, gamma: float) -> Tensor:
    """SimPO, which knows no reference: log-probabilities per token, and a margin `gamma` between their rewards.

    `beta` is usually 2 to 10 here. Source: Meng et al. 2024, arXiv:2405.14734, eq. 6.
    """
    return -F.logsigmoid(beta * (chosen_logps - rejected_logps) - gamma)


def orpo_loss(chosen_logps: Tensor, rejected_logps: Tensor) -> Tensor:
    """The odds-ratio term of ORPO, which knows no reference; both are log-probabilities per token, below zero.

    ORPO adds it, usually with weight 0.1, to the likelihood loss of the chosen one. Source: Hong et al. 2024,
    arXiv:2403.07691, eq. 7.
    """
    return -F.logsigmoid(_log_odds(chosen_logps) - _log_odds(rejected_logps))


def _log_odds(logps: Tensor) -> Tensor:
    return logps - (-logps.expm1()).log()


def apo_zero_loss(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Anchored Preference Optimization where chosen completions are better than the model's own: the chosen one up, the
    rejected one down. Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7.
    """
    return (-beta * chosen).sigmoid() + (beta * rejected).sigmoid()


def apo_down_loss(chosen: Tensor, rejected: Tensor, *, beta: float) -> Tensor:
    """Anchored Preference Optimization where even chosen completions are worse than the model's own: both down, the
    rejected one further. Source: D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 8.
    """
    return (beta * chosen).sigmoid() + (-beta * (chosen - rejected)).sigmoid()
