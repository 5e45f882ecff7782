"""Training on rankings, read from top to bottom.

The order of comparisons follows from the seed and the step alone, dropout is off, and the state of model and
optimizer is kept at checkpoints: a training killed at any instant and taken up again ends with the very
numbers of one that was not (same machine, same threads).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainer.checkpoints import TrainingState, restore_checkpoint, save_checkpoint
from trainer.contract.run import Budget, Stage
from trainer.contract.steps import Step, passing
from trainer.errors import DivergedError
from trainer.groups import Group, PreferencePair, sides
from trainer.logps import Scorer
from trainer.memory import ran_out_of_memory
from trainer.objectives.terms import likelihood_loss
from trainer.packing import Tree
from trainer.preferences import Objective, Said, group_loss
from trainer.record import Recorder, RunInterrupted
from trainer.reference import Reference

log = logging.getLogger(__name__)

WATCHED_PAIRS = 128
"""Most held-out pairs that are looked at during training; before and after it, all are."""


def train(
    scorer: Scorer,
    *,
    groups: Sequence[Group],
    held_out: Sequence[PreferencePair],
    reference: Reference,
    objective: Objective,
    budget: Budget,
    seed: int,
    recorder: Recorder,
    checkpoints: Path,
) -> TrainingState:
    """Train the scorer's model in place on `groups`, taking up the newest checkpoint, and return where it ended.

    Raises DivergedError where the loss or a gradient is no longer a number, RunCancelled on request, RunInterrupted
    where told to leave, with a checkpoint of the last step.
    """
    policy = scorer.model
    hyperparameters = objective.settings
    size = min(hyperparameters.batch_comparisons, len(groups))
    steps = planned_steps(len(groups), batch=size, epochs=hyperparameters.epochs, limit=budget.max_steps)
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=hyperparameters.weight_decay, fused=True)
    usual_weight = sum(group.weight for group in groups) / len(groups)
    state = restore_checkpoint(checkpoints, policy, optimizer)
    while not state.finished:
        try:
            recorder.heed_control()
        except RunInterrupted:
            save_checkpoint(checkpoints, state, policy, optimizer)
            raise
        step = state.step + 1
        batch = [groups[index] for index in batch_indices(step, count=len(groups), size=size, seed=seed)]
        rate = hyperparameters.learning_rate * rate_factor(step, steps, warmup_fraction=hyperparameters.warmup_fraction)
        figures = training_step(scorer, optimizer, batch, reference, objective, rate=rate, mean_weight=usual_weight)
        out_of_time = recorder.seconds[Stage.TRAINING] >= (budget.max_seconds or math.inf)
        tokens = state.tokens + sum(group.tree.tokens for group in batch)
        state = TrainingState(step=step, tokens=tokens, finished=step >= steps or out_of_time)
        if state.finished or step % budget.evaluate_every_steps == 0:
            figures |= held_out_figures(scorer, held_out[:WATCHED_PAIRS], reference, beta=hyperparameters.beta)
        recorder.row(
            step / steps,
            message=_spoken(step, steps, figures),
            step=step,
            total_steps=steps,
            epoch=step * size / len(groups),
            learning_rate=rate,
            tokens=tokens,
            **figures,
        )
        passing(Step.TRAINING_STEPPED)
        if state.finished or step % budget.checkpoint_every_steps == 0:
            save_checkpoint(checkpoints, state, policy, optimizer)
            recorder.keep_time()
    return state


def planned_steps(comparisons: int, *, batch: int, epochs: float, limit: int | None) -> int:
    """Steps of a whole training, each on a batch of comparisons; one at the least."""
    steps = math.ceil(epochs * comparisons / batch)
    return min(steps, limit or steps)


def batch_indices(step: int, *, count: int, size: int, seed: int) -> list[int]:
    """Which comparisons step `step` (from 1) trains on: a cut of one endless row of shuffled epochs."""
    positions = range((step - 1) * size, step * size)
    orders: dict[int, list[int]] = {}
    for epoch in {position // count for position in positions}:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        orders[epoch] = torch.randperm(count, generator=generator).tolist()
    return [orders[position // count][position % count] for position in positions]


def rate_factor(step: int, steps: int, *, warmup_fraction: float) -> float:
    """Share of the peak learning rate at a step (from 1): rising during the warm-up, then falling in a line to 0."""
    warmup = round(warmup_fraction * steps)
    if step <= warmup:
        return step / warmup
    return (steps - step + 1) / (steps - warmup + 1)


def training_step(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Group],
    reference: Reference,
    objective: Objective,
    *,
    rate: float,
    mean_weight: float,
) -> dict[str, float]:
    """One update of the scorer's model; returns the metrics of the batch before it.

    `rate` is the learning rate. A group counts by its weight over `mean_weight`, that of all groups trained on.
    """
    policy = scorer.model
    for settings in optimizer.param_groups:
        settings["lr"] = rate
    figures = _gradients(scorer, optimizer, batch, reference, objective, mean_weight=mean_weight)
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), objective.settings.max_grad_norm)
    figures["grad_norm"] = float(norm)
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
) -> dict[str, float]:
    """Set the gradient of the batch's loss, and return its metrics.

    Where memory runs out, all is done again in parts of half the size: the gradient is a sum over parts.
    """
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            return _summed_gradients(scorer, batch, reference, objective, mean_weight=mean_weight)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error) or not scorer.limits.can_be_halved:
                raise
        scorer.limits = scorer.limits.halved()
        log.warning("Memory ran out; going on in parts of half the size.", extra={"fields": dict(scorer.limits)})


def _summed_gradients(
    scorer: Scorer, batch: Sequence[Group], reference: Reference, objective: Objective, *, mean_weight: float
) -> dict[str, float]:
    """Add the gradient of each part to what is there, and return the batch's metrics."""
    hyperparameters = objective.settings
    skip = hyperparameters.drift_skip_tokens
    drift_tokens = sum(max(0, len(completion) - skip) for group in batch for completion in group.completions)
    figures: dict[str, float] = {}
    for part in groups_in_parts(scorer, batch):
        losses = part_losses(scorer, part, reference, objective)
        terms = {
            "preference_loss": losses.preference / mean_weight / len(batch),
            "likelihood_loss": losses.likelihood / mean_weight / len(batch),
            "drift": losses.drift / max(1, drift_tokens),
        }
        loss = (
            terms["preference_loss"]
            + hyperparameters.likelihood_weight * terms["likelihood_loss"]
            + hyperparameters.drift_weight * terms["drift"]
        )
        loss.backward()  # type: ignore[no-untyped-call]
        _add_up(figures, {"loss": loss, **terms})
        _add_up(figures, {name: value / len(batch) for name, value in losses.watched.items()})
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
    """Sums over a part of a batch: the groups' losses by weight, the drift at counted tokens, and what is watched."""

    preference: Tensor
    likelihood: Tensor
    drift: Tensor
    watched: dict[str, Tensor]


def part_losses(scorer: Scorer, groups: Sequence[Group], reference: Reference, objective: Objective) -> Losses:
    """All terms of the loss of some groups, from one forward of the policy."""
    hyperparameters = objective.settings
    trees = [group.tree for group in groups]
    drifts = hyperparameters.drift_weight > 0
    scores = scorer.score(trees, reference.distributions(trees) if drifts else None)
    logps = scores.logps.cpu()
    log_ratios = logps - reference.logps([sequence for tree in trees for sequence in tree.sequences])
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
        drift=scores.drift[scores.offsets >= hyperparameters.drift_skip_tokens].double().sum().cpu(),
        watched=_watched(logps.detach(), hyperparameters.beta * log_ratios.detach(), groups),
    )


def _best_likelihood(per_token: Tensor, group: Group) -> Tensor:
    """The likelihood loss of the best completion, the mean of them where several are, by the weight of the verdicts."""
    losses = [
        verdict.weight * per_token[[at for at, rank in enumerate(verdict.ranks) if rank == min(verdict.ranks)]].mean()
        for verdict in group.verdicts
    ]
    return torch.stack(losses).sum()


def _watched(logps: Tensor, rewards: Tensor, groups: Sequence[Group]) -> dict[str, Tensor]:
    """Means over each group's pairs, summed over the groups."""
    sums = dict.fromkeys(("chosen_logp", "rejected_logp", "margin", "reward_accuracy"), torch.zeros(()))
    begin = 0
    for group in groups:
        chosen = [begin + pair.chosen for pair in group.pairs]
        rejected = [begin + pair.rejected for pair in group.pairs]
        margins = rewards[chosen] - rewards[rejected]
        seen = (logps[chosen], logps[rejected], margins, _favoured(margins))
        for name, values in zip(sums, seen, strict=True):
            sums[name] = sums[name] + values.mean()
        begin += len(group.completions)
    return sums


def held_out_figures(
    scorer: Scorer, pairs: Sequence[PreferencePair], reference: Reference, *, beta: float
) -> dict[str, float]:
    """Held-out preference accuracy and mean margin, for the chart; nothing where no pair is held out."""
    if not pairs:
        return {}
    sequences = sides(pairs)
    logps = torch.tensor(scorer.sequence_logps(sequences), dtype=torch.float64)
    chosen, rejected = logps.chunk(2)
    reference_chosen, reference_rejected = reference.logps(sequences).chunk(2)
    margins = beta * (chosen - rejected - (reference_chosen - reference_rejected))
    return {
        "held_out_accuracy": float(_favoured(chosen - rejected).mean()),
        "held_out_margin": float(margins.mean()),
    }


def _favoured(margins: Tensor) -> Tensor:
    """1 where a margin is positive, one half where it is zero."""
    return (margins.sign() + 1) / 2


def _add_up(sums: dict[str, float], terms: dict[str, Tensor]) -> None:
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + float(value.detach())


def _spoken(step: int, steps: int, figures: dict[str, float]) -> str | None:
    """A line for the log at the steps that look at held-out pairs, and at the last."""
    if "held_out_accuracy" not in figures and step < steps:
        return None
    said = f"Step {step} of {steps}: loss {figures['loss']:.4f}, margin {figures['margin']:+.3f}"
    if "held_out_accuracy" in figures:
        said += f", held-out accuracy {figures['held_out_accuracy']:.3f}"
    return said
