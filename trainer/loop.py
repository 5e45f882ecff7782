"""Training on rankings, read from top to bottom.

The order of comparisons follows from the seed and the step alone, dropout is off, and the state of model and
optimizer is kept at checkpoints: a training killed at any instant and taken up again ends with the very
numbers of one that was not (same machine, same threads).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from trainer.anchors import kl_anchor
from trainer.checkpoints import TrainingState, restore_best, restore_checkpoint, save_best, save_checkpoint
from trainer.contract.run import Budget, Method, Stage
from trainer.contract.steps import Step, passing
from trainer.errors import DivergedError
from trainer.following import Begin, Take
from trainer.groups import Group, PreferencePair, sides
from trainer.logps import Scorer
from trainer.memory import Limits, ran_out_of_memory
from trainer.objectives.terms import likelihood_loss
from trainer.packing import Tree
from trainer.phases import Phase, phase_at
from trainer.preferences import Objective, Said, group_loss
from trainer.rankings import UNPAIRED
from trainer.ranks import ALONE, Ranks
from trainer.record import Recorder, RunInterrupted
from trainer.reference import Reference
from trainer.stopping import why_stop

log = logging.getLogger(__name__)

WATCHED_PAIRS = 128
"""Most held-out pairs that are looked at during training; before and after it, all are."""


def train(
    scorer: Scorer,
    *,
    phases: Sequence[Phase],
    held_out: Sequence[PreferencePair],
    reference: Reference,
    budget: Budget,
    seed: int,
    recorder: Recorder,
    checkpoints: Path,
    ranks: Ranks = ALONE,
    watch: Callable[[int, bool], dict[str, float]] = lambda step, is_last: {},
) -> TrainingState:
    """Train the scorer's model in place, taking up the newest checkpoint, and return where it ended.

    With `stop_after_evaluations` it is left with the weights of the best evaluation. `watch` is asked at every
    evaluation for further figures of the model as it is; it must leave that as it was. Raises DivergedError where the
    loss or a gradient is no longer a number, RunCancelled on request, RunInterrupted where told to leave, with a
    checkpoint of the last step.
    """
    policy = scorer.model
    steps = sum(phase.steps for phase in phases)
    optimizer = optimizer_for(scorer, phases)
    state = taken_up(checkpoints, scorer, optimizer)
    if ranks.count > 1:
        ranks.tell(Begin())
        ranks.agree(None)
    while not state.finished:
        try:
            recorder.heed_control()
        except RunInterrupted:
            save_checkpoint(checkpoints, state, policy, optimizer)
            raise
        step = state.step + 1
        phase, own_step = phase_at(phases, step)
        batch, figures = _phase_step(
            scorer, optimizer, phase, own_step, reference, state, step=step, seed=seed, ranks=ranks
        )
        out_of_time = recorder.seconds[Stage.TRAINING] >= (budget.max_seconds or math.inf)
        is_last = step >= steps or out_of_time
        evaluates = is_last or step % budget.evaluate_every_steps == 0
        if evaluates:
            beta = phase.objective.settings.beta
            figures |= held_out_figures(scorer, held_out[:WATCHED_PAIRS], reference, beta=beta)
        figures = {name: value for name, value in figures.items() if name not in phase.objective.meaningless}
        state = _advanced(state, scorer, batch, figures, budget if evaluates else None)
        state = replace(state, finished=is_last or bool(state.stopped))
        if evaluates:
            figures |= watch(step, state.finished)
        if evaluates and budget.stop_after_evaluations and state.progress.best_step == step:
            save_best(checkpoints, step, policy)
        recorder.row(
            step / steps,
            message=_spoken(step, steps, figures),
            step=step,
            total_steps=steps,
            epoch=own_step * phase.size / len(phase.groups),
            tokens=state.tokens,
            **figures,
        )
        passing(Step.TRAINING_STEPPED)
        if state.finished or step % budget.checkpoint_every_steps == 0:
            save_checkpoint(checkpoints, state, policy, optimizer)
            recorder.keep_time()
    if budget.stop_after_evaluations and state.progress.best_step:
        restore_best(checkpoints, state.progress.best_step, policy)
    return state


def optimizer_for(scorer: Scorer, phases: Sequence[Phase]) -> torch.optim.Optimizer:
    """AdamW over what is trained."""
    weight_decay = phases[0].objective.settings.weight_decay
    trained = [parameter for parameter in scorer.model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, weight_decay=weight_decay, fused=True)


def taken_up(checkpoints: Path, scorer: Scorer, optimizer: torch.optim.Optimizer) -> TrainingState:
    """Put everything back to the newest checkpoint; a fresh state where there is none."""
    state = restore_checkpoint(checkpoints, scorer.model, optimizer)
    if state.limits:
        scorer.limits = Limits.model_validate(state.limits)
    return state


def _phase_step(  # noqa: PLR0917
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    own_step: int,
    reference: Reference,
    state: TrainingState,
    *,
    step: int,
    seed: int,
    ranks: Ranks,
) -> tuple[list[Group], dict[str, float]]:
    """One step of a phase: the comparisons trained on, and the metrics."""
    chosen = phase.batch(own_step, seed=seed)
    objective = anchored(phase, chosen, scorer, reference, state)
    if ranks.count > 1:
        ranks.tell(Take(step, objective.anchor))
    figures = taken_step(scorer, optimizer, phase, own_step, reference, anchor=objective.anchor, seed=seed, ranks=ranks)
    if objective.method in UNPAIRED:
        figures["anchor"] = objective.anchor
    return [phase.groups[index] for index in chosen], {**figures, "learning_rate": phase.rate(own_step)}


def taken_step(
    scorer: Scorer,
    optimizer: torch.optim.Optimizer,
    phase: Phase,
    own_step: int,
    reference: Reference,
    *,
    anchor: float,
    seed: int,
    ranks: Ranks,
) -> dict[str, float]:
    """Step `own_step` (from 1) of a phase, as every rank takes it; returns the metrics."""
    if own_step == 1:
        optimizer.state.clear()  # what another phase learnt of the scale of gradients is not this one's
    batch = [phase.groups[index] for index in phase.batch(own_step, seed=seed)]
    return training_step(
        scorer,
        optimizer,
        batch,
        reference,
        replace(phase.objective, anchor=anchor),
        rate=phase.rate(own_step),
        mean_weight=phase.usual_weight,
        ranks=ranks,
    )


def anchored(
    phase: Phase, chosen: Sequence[int], scorer: Scorer, reference: Reference, state: TrainingState
) -> Objective:
    """The phase's objective with the anchor of this step, where it measures rewards from one."""
    objective = phase.objective
    if objective.method is Method.KTO:
        sequences = [sequence for index in chosen if (sequence := phase.mismatched[index]) is not None]
        return replace(objective, anchor=kl_anchor(scorer, reference, sequences, beta=objective.settings.beta))
    if objective.method is Method.BCO:
        return replace(objective, anchor=state.rewards.mean)
    return objective


def _advanced(
    state: TrainingState, scorer: Scorer, batch: Sequence[Group], figures: dict[str, float], evaluated: Budget | None
) -> TrainingState:
    """The state after one more step, and after an evaluation under that budget where there was one."""
    step = state.step + 1
    progress = state.progress.after(step, figures) if evaluated else state.progress
    return replace(
        state,
        step=step,
        tokens=state.tokens + sum(group.tree.tokens for group in batch),
        rewards=state.rewards.with_more(figures["reward"], sum(len(group.completions) for group in batch)),
        progress=progress,
        stopped=why_stop(progress, figures, evaluated) if evaluated else "",
        limits=scorer.limits.model_dump(),
    )


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
    for settings in optimizer.param_groups:
        settings["lr"] = rate
    figures: dict[str, float] = {}
    fault: str | None = None
    try:
        figures = _gradients(scorer, optimizer, batch, reference, objective, mean_weight=mean_weight, ranks=ranks)
    except Exception as error:
        if ranks.count == 1:
            raise
        log.exception("This rank's share of a step failed")
        fault = f"Rank {ranks.rank} of {ranks.count} failed: {error}"
    ranks.agree(fault)
    figures = ranks.add_up(list(policy.parameters()), figures)
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
    ranks: Ranks,
) -> dict[str, float]:
    """Set the gradient of this rank's share of the batch's loss, and return its share of the metrics.

    Where memory runs out, all is done again in parts of half the size: the gradient is a sum over parts.
    """
    while True:
        optimizer.zero_grad(set_to_none=True)
        try:
            return _summed_gradients(scorer, batch, reference, objective, mean_weight=mean_weight, ranks=ranks)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error) or not scorer.limits.can_be_halved:
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
    for part in groups_in_parts(scorer, own):
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
        seen = (logps[chosen], logps[rejected], margins, _favoured(margins))
        for name, values in zip(sums, seen, strict=True):
            sums[name] = sums[name] + values.mean()
        begin += len(group.completions)
    return sums


def held_out_figures(
    scorer: Scorer, pairs: Sequence[PreferencePair], reference: Reference, *, beta: float
) -> dict[str, float]:
    """Held-out preference accuracy, mean margin and log-probabilities; nothing where no pair is held out."""
    if not pairs:
        return {}
    sequences = sides(pairs)
    logps = torch.tensor(scorer.sequence_logps(sequences), dtype=torch.float64)
    chosen, rejected = logps.chunk(2)
    reference_chosen, reference_rejected = reference.logps(sequences).chunk(2)
    margins = beta * (chosen - rejected - (reference_chosen - reference_rejected))
    tokens = torch.tensor([len(pair.chosen.completion) for pair in pairs])
    return {
        "held_out_chosen_fall": float(((reference_chosen - chosen) / tokens).mean()),
        "held_out_accuracy": float(_favoured(chosen - rejected).mean()),
        "held_out_margin": float(margins.mean()),
        "held_out_pairs": len(pairs),
        "held_out_chosen_logp": float(chosen.mean()),
        "held_out_rejected_logp": float(rejected.mean()),
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
    said = f"Step {step} of {steps}: loss {figures['loss']:.4f}"
    if "margin" in figures:
        said += f", margin {figures['margin']:+.3f}"
    if "held_out_accuracy" in figures:
        said += f", held-out accuracy {figures['held_out_accuracy']:.3f}"
    return said
