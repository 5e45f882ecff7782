"""Training on rankings, read from top to bottom.

The order of comparisons follows from the seed and the step alone, dropout is off, and the state of model and
optimizer is kept at checkpoints: a training killed at any instant and taken up again ends with the very
numbers of one that was not (same machine, same threads).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from trainer.anchors import RunningMean, kl_anchor
from trainer.checkpoints import TrainingState, restore_best, restore_checkpoint, save_best, save_checkpoint
from trainer.contract.run import Budget, Method, Stage
from trainer.contract.steps import Step, passing
from trainer.following import Agree, Begin, Restore, Take, tell
from trainer.groups import Group, PreferencePair, sides
from trainer.logps import Scorer
from trainer.memory import Limits
from trainer.phases import Phase, phase_at
from trainer.preferences import Objective
from trainer.rankings import UNPAIRED
from trainer.ranks import ALONE, Ranks
from trainer.record import Recorder, RunInterrupted
from trainer.reference import Reference
from trainer.sharding import reshard
from trainer.step import favoured, training_step
from trainer.stopping import Progress, why_stop

log = logging.getLogger(__name__)

T = TypeVar("T")

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
    tell(ranks, Begin())
    tell(ranks, Agree())
    while not state.finished:
        try:
            recorder.heed_control()
        except RunInterrupted:
            save_checkpoint(checkpoints, state, policy, optimizer, ranks)
            raise
        step = state.step + 1
        phase, own_step = phase_at(phases, step)
        if phase is phases[-1] and own_step == 1:
            # What comes before is not what is to be learnt last.
            state = replace(state, progress=Progress(), rewards=RunningMean())
        batch, figures = _phase_step(
            scorer, optimizer, phase, own_step, reference, state, step=step, seed=seed, ranks=ranks
        )
        out_of_time = recorder.seconds[Stage.TRAINING] >= (budget.max_seconds or math.inf)
        is_last = step >= steps or out_of_time
        evaluates = is_last or step % budget.evaluate_every_steps == 0
        if evaluates:
            beta = phase.objective.settings.beta
            figures |= held_out_figures(scorer, watched_pairs(held_out), reference, beta=beta)
        figures = {name: value for name, value in figures.items() if name not in phase.objective.meaningless}
        rules = stop_rules(budget, phase) if evaluates and phase is phases[-1] else None
        state = _advanced(state, scorer, batch, figures, rules)
        state = replace(state, finished=is_last or bool(state.stopped))
        if evaluates:
            figures |= watch(step, state.finished)
        if rules and rules.stop_after_evaluations and state.progress.best_step == step:
            save_best(checkpoints, step, policy, ranks)
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
            save_checkpoint(checkpoints, state, policy, optimizer, ranks)
            recorder.keep_time()
    if budget.stop_after_evaluations and state.progress.best_step:
        tell(ranks, Restore(state.progress.best_step))
        restore_best(checkpoints, state.progress.best_step, policy)
    return state


def stop_rules(budget: Budget, phase: Phase) -> Budget:
    """What may end the phase early. Demonstrations are there to be drifted to, so no fall is too deep for them."""
    if phase.objective.method is Method.SFT:
        return budget.model_copy(update={"most_chosen_fall": None})
    return budget


def watched_pairs(pairs: Sequence[T]) -> list[T]:
    """The held-out pairs that are looked at during training: at most WATCHED_PAIRS, from everywhere among them."""
    count = min(len(pairs), WATCHED_PAIRS)
    return [pairs[number * len(pairs) // count] for number in range(count)]


def optimizer_for(scorer: Scorer, phases: Sequence[Phase]) -> torch.optim.Optimizer:
    """AdamW over what is trained."""
    reshard(scorer.model)
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
    tell(ranks, Take(step, objective.anchor))
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
        "held_out_accuracy": float(favoured(chosen - rejected).mean()),
        "held_out_reward_accuracy": float(favoured(margins).mean()),
        "held_out_margin": float(margins.mean()),
        "held_out_pairs": len(pairs),
        "held_out_chosen_logp": float(chosen.mean()),
        "held_out_rejected_logp": float(rejected.mean()),
    }


def _spoken(step: int, steps: int, figures: dict[str, float]) -> str | None:
    """A line for people at the steps that look at held-out pairs, and at the last."""
    accuracy = figures.get("held_out_accuracy")
    if accuracy is None and step < steps:
        return None
    said = f"Step {step} of {steps}."
    if accuracy is None:
        return said
    return f"{said} It prefers what people preferred in {100 * accuracy:.0f} % of the held-out pairs."
