"""Training on preference pairs, read from top to bottom.

The order of pairs follows from the seed and the step alone, dropout is off, and the state of model and
optimizer is kept at checkpoints: a training killed at any instant and taken up again ends with the very
numbers of one that was not (same machine, same threads).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from trainer.checkpoints import TrainingState, restore_checkpoint, save_checkpoint
from trainer.contract.run import Budget, Hyperparameters, Stage
from trainer.contract.steps import Step, passing
from trainer.errors import DivergedError
from trainer.groups import TokenizedPair, Tokens, sides
from trainer.logps import (
    LOGITS_PER_FORWARD,
    TOKENS_PER_FORWARD,
    PaddedBatch,
    completion_logps,
    padded_batch,
    sequence_logps,
    summed_by_sequence,
    token_logps,
    vocabulary_size,
)
from trainer.objectives import dpo_loss, drift_kl, likelihood_loss, reward_margins
from trainer.record import Recorder, RunInterrupted
from trainer.reference import Reference

WATCHED_PAIRS = 128
"""Most held-out pairs that are looked at during training; before and after it, all are."""


def train(
    policy: PreTrainedModel,
    *,
    pairs: Sequence[TokenizedPair],
    held_out: Sequence[TokenizedPair],
    reference: Reference,
    hyperparameters: Hyperparameters,
    budget: Budget,
    seed: int,
    recorder: Recorder,
    checkpoints: Path,
) -> TrainingState:
    """Train `policy` in place on `pairs`, taking up the newest checkpoint, and return where it ended.

    Raises DivergedError where the loss or a gradient is no longer a number, RunCancelled on request, RunInterrupted
    where told to leave, with a checkpoint of the last step.
    """
    batch_pairs = min(hyperparameters.batch_pairs, len(pairs))
    steps = planned_steps(len(pairs), batch_pairs=batch_pairs, epochs=hyperparameters.epochs, limit=budget.max_steps)
    optimizer = torch.optim.AdamW(policy.parameters(), weight_decay=hyperparameters.weight_decay, fused=True)
    usual_weight = sum(pair.weight for pair in pairs) / len(pairs)
    state = restore_checkpoint(checkpoints, policy, optimizer)
    while not state.finished:
        try:
            recorder.heed_control()
        except RunInterrupted:
            save_checkpoint(checkpoints, state, policy, optimizer)
            raise
        step = state.step + 1
        batch = [pairs[index] for index in batch_indices(step, count=len(pairs), size=batch_pairs, seed=seed)]
        rate = hyperparameters.learning_rate * rate_factor(step, steps, warmup_fraction=hyperparameters.warmup_fraction)
        figures = training_step(
            policy, optimizer, batch, reference, hyperparameters, rate=rate, mean_weight=usual_weight
        )
        out_of_time = recorder.seconds[Stage.TRAINING] >= (budget.max_seconds or math.inf)
        tokens = state.tokens + sum(len(sequence) for sequence in sides(batch))
        state = TrainingState(step=step, tokens=tokens, finished=step >= steps or out_of_time)
        if state.finished or step % budget.evaluate_every_steps == 0:
            figures |= held_out_figures(policy, held_out[:WATCHED_PAIRS], reference, beta=hyperparameters.beta)
        recorder.row(
            step / steps,
            message=_spoken(step, steps, figures),
            step=step,
            total_steps=steps,
            epoch=step * batch_pairs / len(pairs),
            learning_rate=rate,
            tokens=tokens,
            **figures,
        )
        passing(Step.TRAINING_STEPPED)
        if state.finished or step % budget.checkpoint_every_steps == 0:
            save_checkpoint(checkpoints, state, policy, optimizer)
            recorder.keep_time()
    return state


def planned_steps(pairs: int, *, batch_pairs: int, epochs: float, limit: int | None) -> int:
    """Steps of a whole training; one at the least."""
    steps = math.ceil(epochs * pairs / batch_pairs)
    return min(steps, limit or steps)


def batch_indices(step: int, *, count: int, size: int, seed: int) -> list[int]:
    """Which pairs step `step` (from 1) trains on: a cut of one endless row of shuffled epochs."""
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
    policy: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[TokenizedPair],
    reference: Reference,
    hyperparameters: Hyperparameters,
    *,
    rate: float,
    mean_weight: float,
) -> dict[str, float]:
    """One update of the policy; returns the metrics of the batch before it.

    `rate` is the learning rate. A pair counts by its weight over `mean_weight`, that of all training pairs.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    skip = hyperparameters.drift_skip_tokens
    drift_tokens = sum(max(0, len(s.completion) - skip) for pair in batch for s in (pair.chosen, pair.rejected))
    figures: dict[str, float] = {}
    for part in parts_that_fit(batch, vocabulary=vocabulary_size(policy)):
        losses = part_losses(policy, part, reference, hyperparameters)
        weights = torch.tensor([pair.weight / mean_weight for pair in part], dtype=torch.float64)
        terms = {
            "preference_loss": (weights * losses.preference).sum() / len(batch),
            "likelihood_loss": (weights * losses.likelihood).sum() / len(batch),
            "drift": losses.drift.double().sum() / max(1, drift_tokens),
        }
        loss = (
            terms["preference_loss"]
            + hyperparameters.likelihood_weight * terms["likelihood_loss"]
            + hyperparameters.drift_weight * terms["drift"]
        )
        loss.backward()  # type: ignore[no-untyped-call]
        _add_up(figures, {"loss": loss, **terms})
        _add_up(figures, {name: value.sum() / len(batch) for name, value in losses.watched.items()})
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), hyperparameters.max_grad_norm)
    figures["grad_norm"] = float(norm)
    if not math.isfinite(figures["loss"]) or not math.isfinite(figures["grad_norm"]):
        raise DivergedError(
            f"The loss is {figures['loss']} and its gradient {figures['grad_norm']}: training has gone astray. "
            "Start a new run with a lower learning rate."
        )
    optimizer.step()
    return figures


@dataclass(frozen=True)
class Losses:
    """Of a part of a batch: the terms of the loss per pair (drift: per counted token), and what is watched."""

    preference: Tensor
    likelihood: Tensor
    drift: Tensor
    watched: dict[str, Tensor]


def part_losses(
    policy: PreTrainedModel, pairs: Sequence[TokenizedPair], reference: Reference, hyperparameters: Hyperparameters
) -> Losses:
    """All terms of the loss of some pairs, from one forward of the policy."""
    sequences = sides(pairs)
    batch = padded_batch(sequences, device=policy.device)
    distributions = completion_logps(policy, batch)
    chosen, rejected = summed_by_sequence(token_logps(distributions, batch), batch).chunk(2)
    reference_chosen, reference_rejected = reference.logps(sequences).chunk(2)
    logps = (chosen, rejected, reference_chosen, reference_rejected)
    margins = reward_margins(*logps, beta=hyperparameters.beta).detach()
    return Losses(
        preference=dpo_loss(*logps, beta=hyperparameters.beta),
        likelihood=likelihood_loss(chosen, torch.tensor(batch.counts[: len(pairs)])),
        drift=_drift(distributions, sequences, batch, reference, hyperparameters),
        watched={
            "chosen_logp": chosen.detach(),
            "rejected_logp": rejected.detach(),
            "margin": margins,
            "reward_accuracy": _favoured(margins),
        },
    )


def _drift(
    distributions: Tensor,
    sequences: Sequence[Tokens],
    batch: PaddedBatch,
    reference: Reference,
    hyperparameters: Hyperparameters,
) -> Tensor:
    """KL to the reference at each completion token but the first ones of each completion, shape (tokens,)."""
    if hyperparameters.drift_weight == 0:
        return torch.zeros(0)
    counted = batch.offsets >= hyperparameters.drift_skip_tokens
    return drift_kl(distributions[counted], reference.distributions(sequences, batch)[counted])


def parts_that_fit(batch: Sequence[TokenizedPair], *, vocabulary: int) -> Iterator[list[TokenizedPair]]:
    """The batch in parts whose forward fits in memory (see `logps`); one pair at the least."""
    part: list[TokenizedPair] = []
    for pair in batch:
        longer = [*part, pair]
        sequences = sides(longer)
        too_wide = len(sequences) * max(len(sequence) for sequence in sequences) > TOKENS_PER_FORWARD
        too_many = sum(len(sequence.completion) for sequence in sequences) * vocabulary > LOGITS_PER_FORWARD
        if part and (too_wide or too_many):
            yield part
            longer = [pair]
        part = longer
    if part:
        yield part


def held_out_figures(
    policy: PreTrainedModel, pairs: Sequence[TokenizedPair], reference: Reference, *, beta: float
) -> dict[str, float]:
    """Held-out preference accuracy and mean margin, for the chart; nothing where no pair is held out."""
    if not pairs:
        return {}
    sequences = sides(pairs)
    logps = torch.tensor(sequence_logps(policy, sequences), dtype=torch.float64)
    chosen, rejected = logps.chunk(2)
    margins = reward_margins(chosen, rejected, *reference.logps(sequences).chunk(2), beta=beta)
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
