"""One update of the policy: from a batch of comparisons to its loss, its gradient and the figures of both."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.errors import DivergedError
from trainer.groups import Group
from trainer.logps import Scorer
from trainer.memory import ran_out_of_memory
from trainer.objectives.terms import likelihood_loss
from trainer.packing import Tree
from trainer.preferences import Objective, Said, group_loss
from trainer.ranks import ALONE, Ranks
from trainer.reference import Reference
from trainer.sharding import in_step, is_sharded, lend, number, reshard

log = logging.getLogger(__name__)


def training_step(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Group],
    reference: Reference,
    objective: Objective,
    *,
    rate: float,
    mean_weight: float,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """One update of the scorer's model; returns the metrics of the batch before it.

    `rate` is the learning rate. A group counts by its weight over `mean_weight`, that of all groups trained on. Of
    several ranks each computes a share of the batch, and all take the same step.
    """
    policy = scorer.model
    reshard(policy)
    for settings in optimizer.param_groups:
        settings["lr"] = rate
    figures: dict[str, float] = {}
    fault: str | None = None
    try:
        figures = _gradients(scorer, optimizer, batch, reference, objective, mean_weight=mean_weight, ranks=ranks)
    except Exception as error:
        if ranks.count == 1 or is_sharded(policy):  # whose ranks are not within a call of each other now
            raise
        log.exception("This rank's share of a step failed")
        fault = f"Rank {ranks.rank} of {ranks.count} failed: {error}"
    ranks.agree(fault)
    trained = tuple(parameter for parameter in policy.parameters() if parameter.requires_grad)
    added_up = () if is_sharded(policy) else trained  # a sharded model does so by itself
    figures = ranks.add_up(added_up, figures)
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), objective.settings.max_grad_norm)
    figures["grad_norm"] = number(norm)
    if not math.isfinite(figures["loss"]) or not math.isfinite(figures["grad_norm"]):
        raise DivergedError(
            f"The loss is {figures['loss']} and its gradient {figures['grad_norm']}: training has gone astray. "
            "Start a new run with a lower learning rate."
        )
    optimizer.step()
    return figures


def _gradients(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Group],
    reference: Reference,
    objective: Objective,
    *,
    mean_weight: float,
    ranks: Ranks,
) -> dict[str, float]:
    """Set the gradient of this rank's share of the batch's loss, and return its share of the metrics.

    Where memory runs out, all is done again in parts of half the size: the gradient is a sum over parts. A rank that
    shares a model with others cannot do so by itself.
    """
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            with in_step():
                return _summed_gradients(scorer, batch, reference, objective, mean_weight=mean_weight, ranks=ranks)
        except (MemoryError, RuntimeError) as error:
            if is_sharded(scorer.model) or not ran_out_of_memory(error) or not scorer.limits.can_be_halved:
                raise
        scorer.limits = scorer.limits.halved()
        log.warning("Memory ran out; going on in parts of half the size.", extra={"fields": dict(scorer.limits)})


def _summed_gradients(
    scorer: Scorer,
    batch: Sequence[Group],
    reference: Reference,
    objective: Objective,
    *,
    mean_weight: float,
    ranks: Ranks,
) -> dict[str, float]:
    """Add the gradient of each part to what is there, and return the metrics. Both are sums over the parts, and over
    the ranks: whatever they are means of is counted over the whole batch."""
    skip = objective.settings.drift_skip_tokens
    drift_tokens = sum(max(0, len(completion) - skip) for group in batch for completion in group.completions)
    judged = sum(1 for group in batch if group.pairs) or len(batch)
    completions = sum(len(group.completions) for group in batch)
    figures: dict[str, float] = {}
    own = [batch[number] for number in ranks.share([group.tree for group in batch])]
    parts = groups_in_parts(scorer, own)
    lacking = ranks.most(len(parts)) - len(parts) if is_sharded(scorer.model) else 0
    for part in parts:
        losses = part_losses(scorer, part, reference, objective)
        terms = {
            "preference_loss": losses.preference / mean_weight / len(batch),
            "likelihood_loss": losses.likelihood / mean_weight / len(batch),
            "drift": losses.drift / max(1, drift_tokens),
        }
        loss = (
            terms["preference_loss"]
            + objective.likelihood_weight * terms["likelihood_loss"]
            + objective.drift_weight * terms["drift"]
        )
        loss.backward()  # type: ignore[no-untyped-call]
        _add_up(figures, {"loss": loss, **terms})
        _add_up(figures, {name: value / judged for name, value in losses.watched.items()})
        _add_up(figures, {"reward": losses.rewards / completions})
        del losses, terms, loss  # and all that they hold of this part, before the next one takes its place
    for _ in range(lacking):
        if objective.drift_weight > 0 and reference.reads_anew:
            lend(reference.scorer.model)
        lend(scorer.model, backward=True)
    return figures


def groups_in_parts(scorer: Scorer, batch: Sequence[Group]) -> list[list[Group]]:
    """The batch in parts whose forward fits in memory; a group is never divided."""
    waiting: dict[Tree, list[Group]] = {}
    for group in batch:
        waiting.setdefault(group.tree, []).append(group)
    trees = [group.tree for group in batch]
    return [[waiting[tree].pop(0) for tree in part] for part in scorer.in_parts(trees)]


@dataclass(frozen=True)
class Losses:
    """Sums over a part of a batch: the groups' losses by weight, the drift at counted tokens, the rewards of all
    completions, and what is watched of those groups that have pairs."""

    preference: Tensor
    likelihood: Tensor
    drift: Tensor
    rewards: Tensor
    watched: dict[str, Tensor]


def part_losses(scorer: Scorer, groups: Sequence[Group], reference: Reference, objective: Objective) -> Losses:
    """All terms of the loss of some groups, from one forward of the policy."""
    settings = objective.settings
    trees = [group.tree for group in groups]
    scores = scorer.score(trees, reference.distributions(trees) if objective.drift_weight > 0 else None)
    logps = scores.logps.cpu()
    log_ratios = logps - reference.logps([sequence for tree in trees for sequence in tree.sequences])
    rewards = settings.beta * log_ratios.detach()
    tokens = torch.tensor([len(completion) for tree in trees for completion in tree.completions])
    per_token = likelihood_loss(logps, tokens)
    preference, likelihood = torch.zeros(2, dtype=torch.float64)
    begin = 0
    for group in groups:
        own = slice(begin, begin + len(group.completions))
        said = Said(logps[own], log_ratios[own], tokens[own])
        preference = preference + group_loss(said, group, objective)
        likelihood = likelihood + _best_likelihood(per_token[own], group)
        begin = own.stop
    return Losses(
        preference=preference,
        likelihood=likelihood,
        drift=scores.drift[scores.offsets >= settings.drift_skip_tokens].double().sum().cpu(),
        rewards=rewards.sum(),
        watched=_watched(logps.detach(), rewards, groups),
    )


def _best_likelihood(per_token: Tensor, group: Group) -> Tensor:
    """The likelihood loss of the best completion, the mean of them where several are, by the weight of the verdicts."""
    loss = per_token.new_zeros(())
    for verdict in group.verdicts:
        if not (verdict.all_bad and len(set(verdict.ranks)) == 1):
            best = [at for at, rank in enumerate(verdict.ranks) if rank == min(verdict.ranks)]
            loss = loss + verdict.weight * per_token[best].mean()
    return loss


def _watched(logps: Tensor, rewards: Tensor, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Means over each group's pairs, summed over the groups that have any; of demonstrations alone, their own
    log-probabilities."""
    if all(len(group.completions) == 1 for group in groups):
        return {"chosen_logp": logps.sum()}
    sums = dict.fromkeys(("chosen_logp", "rejected_logp", "margin", "reward_accuracy"), torch.zeros(()))
    begin = 0
    for group in groups:
        if not group.pairs:
            begin += len(group.completions)
            continue
        chosen = [begin + pair.chosen for pair in group.pairs]
        rejected = [begin + pair.rejected for pair in group.pairs]
        margins = rewards[chosen] - rewards[rejected]
        seen = (logps[chosen], logps[rejected], margins, favoured(margins))
        for name, values in zip(sums, seen, strict=True):
            sums[name] = sums[name] + values.mean()
        begin += len(group.completions)
    return sums


def favoured(margins: Tensor) -> Tensor:
    """1 where a margin is positive, one half where it is zero."""
    return (margins.sign() + 1) / 2


def _add_up(sums: dict[str, float], terms: dict[str, Tensor]) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + float(value.detach())
