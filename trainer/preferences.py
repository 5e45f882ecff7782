"""From what policy and reference say of a group's completions to the loss of its verdicts, by the method of the run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.contract.run import Hyperparameters, Method
from trainer.groups import Group
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
from trainer.objectives.terms import centring_loss
from trainer.objectives.unpaired import bco_loss, kto_loss
from trainer.rankings import UNPAIRED

OF_REWARDS = {Method.DPO, Method.DPO_NORMALISED, Method.SIMPO, Method.REWARD_MODEL}
"""Methods in which a completion has a reward of its own, so that a whole ranking has a likelihood."""
OF_POLICIES = frozenset(
    {
        "chosen_logp",
        "rejected_logp",
        "likelihood_loss",
        "drift",
        "held_out_chosen_logp",
        "held_out_rejected_logp",
        "held_out_chosen_fall",
    }
)
"""Figures of a step that only a language model has."""


@dataclass(frozen=True)
class Objective:
    """What a run minimises. `anchor` is the reward that KTO and BCO find neither good nor bad, at this step."""

    method: Method
    settings: Hyperparameters
    anchor: float = 0.0

    @property
    def likelihood_weight(self) -> float:
        """What the likelihood of the best completions counts, in nats per token."""
        return 1.0 if self.method is Method.SFT else self.settings.likelihood_weight

    @property
    def drift_weight(self) -> float:
        """What drift from the reference counts, in nats per token; who learns a demonstration is meant to drift."""
        return 0.0 if self.method is Method.SFT else self.settings.drift_weight

    @property
    def meaningless(self) -> frozenset[str]:
        """Figures of a step that say nothing under this method: a reward model has no log-probabilities."""
        return OF_POLICIES if self.method is Method.REWARD_MODEL else frozenset()

    @property
    def ranks_whole(self) -> bool:
        """Whether a ranking of three or more counts as what it is."""
        smooths = self.settings.label_smoothing > 0 or self.settings.reliability == "smoothing"
        bends = smooths or self.settings.strength_margin > 0
        return self.settings.rankings == "plackett_luce" and self.method in OF_REWARDS and not bends


@dataclass(frozen=True)
class Said:
    """Of each completion of a group, shape (completions,): log p under the policy in nats, the same less the
    reference's, and how many tokens it has. Of a reward model both are the reward."""

    logps: Tensor
    log_ratios: Tensor
    tokens: Tensor


def group_loss(said: Said, group: Group, objective: Objective) -> Tensor:
    """The loss of a group, its verdicts counting by weight; a scalar.

    A ranking of three or more counts as what it is where the objective allows, else as the pairs that it sets apart. Of
    two completions both are the same. A demonstration has no preference.
    """
    if objective.method is Method.SFT:
        return torch.zeros((), dtype=said.logps.dtype)
    if objective.method in UNPAIRED:
        return _of_each(said, group, objective)
    if objective.method is Method.REWARD_MODEL and objective.settings.reward_centring > 0:
        return _of_order(said, group, objective) + objective.settings.reward_centring * _off_centre(said, group)
    return _of_order(said, group, objective)


def _of_order(said: Said, group: Group, objective: Objective) -> Tensor:
    if len(group.completions) == 2 or not objective.ranks_whole:
        return _of_pairs(said, group, objective)
    rewards = _rewards(said, objective)
    losses = [verdict.weight * plackett_luce_loss(rewards, verdict.ranks) for verdict in group.verdicts]
    return torch.stack(losses).sum()


def _rewards(said: Said, objective: Objective) -> Tensor:
    method, settings = objective.method, objective.settings
    if method is Method.SIMPO:
        return settings.beta * said.logps / said.tokens
    if method is Method.DPO_NORMALISED:
        return settings.beta * said.log_ratios / said.tokens
    return settings.beta * said.log_ratios


def _of_each(said: Said, group: Group, objective: Objective) -> Tensor:
    """The loss of each completion by itself, by how good it was found."""
    loss = kto_loss if objective.method is Method.KTO else bco_loss
    rewards = objective.settings.beta * said.log_ratios
    losses = []
    for verdict in group.verdicts:
        praise = verdict.weight * said.logps.new_tensor(verdict.praise(group.completions))
        losses.append(loss(rewards, praise, anchor=objective.anchor).sum())
    return torch.stack(losses).sum()


def _off_centre(said: Said, group: Group) -> Tensor:
    """How far the rewards of each pair are from centred, by the pairs' weight."""
    chosen, rejected = ([getattr(pair, side) for pair in group.pairs] for side in ("chosen", "rejected"))
    weights = said.logps.new_tensor([pair.weight for pair in group.pairs])
    return (weights * centring_loss(said.log_ratios[chosen], said.log_ratios[rejected])).sum()


def _of_pairs(said: Said, group: Group, objective: Objective) -> Tensor:
    weights = said.logps.new_tensor([pair.weight for pair in group.pairs])
    return (weights * _pair_losses(said, group, objective)).sum()


def _pair_losses(said: Said, group: Group, objective: Objective) -> Tensor:
    """The loss of each pair of the group, shape (pairs,)."""
    method, settings = objective.method, objective.settings
    beta = settings.beta

    def both(values: Tensor) -> tuple[Tensor, Tensor]:
        return values[[pair.chosen for pair in group.pairs]], values[[pair.rejected for pair in group.pairs]]

    if method in {Method.DPO, Method.DPO_NORMALISED, Method.REWARD_MODEL}:
        margin = settings.strength_margin * said.logps.new_tensor([pair.strength for pair in group.pairs])
        log_ratios = said.log_ratios / said.tokens if method is Method.DPO_NORMALISED else said.log_ratios
        smoothing = said.logps.new_tensor([max(settings.label_smoothing, pair.doubt) for pair in group.pairs])
        return dpo_loss(*both(log_ratios), beta=beta, margin=margin, label_smoothing=smoothing)
    if method is Method.ROBUST_DPO:
        return robust_dpo_loss(*both(said.log_ratios), beta=beta, flip_rate=settings.label_smoothing)
    if method is Method.IPO:
        return ipo_loss(*both(said.log_ratios / said.tokens), beta=beta)
    if method is Method.SIMPO:
        return simpo_loss(*both(said.logps / said.tokens), beta=beta, gamma=settings.gamma)
    if method is Method.ORPO:
        return orpo_loss(*both(said.logps / said.tokens))
    loss = {Method.HINGE: hinge_loss, Method.APO_ZERO: apo_zero_loss, Method.APO_DOWN: apo_down_loss}[method]
    return loss(*both(said.log_ratios), beta=beta)
