"""What a training does in which of its steps: demonstrations first where they are asked for, then preferences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from trainer.groups import Group
from trainer.packing import Tokens
from trainer.preferences import Objective


@dataclass(frozen=True)
class Phase:
    """Some epochs over some comparisons with one objective. `mismatched` has an entry for each group where the
    objective measures rewards from them (see `anchors`)."""

    groups: Sequence[Group]
    objective: Objective
    epochs: float
    peak_rate: float
    mismatched: Sequence[Tokens | None] = field(default=())
    most_steps: int | None = None

    @property
    def size(self) -> int:
        """Comparisons in a step."""
        return min(self.objective.settings.batch_comparisons, len(self.groups))

    @property
    def steps(self) -> int:
        """Steps of the whole phase; one at the least."""
        steps = max(1, math.ceil(self.epochs * len(self.groups) / self.size))
        return min(steps, self.most_steps or steps)

    @cached_property
    def usual_weight(self) -> float:
        """Mean weight of a group."""
        return sum(group.weight for group in self.groups) / len(self.groups)

    def batch(self, step: int, *, seed: int) -> list[int]:
        """Which groups step `step` (from 1) of the phase trains on."""
        return batch_indices(step, count=len(self.groups), size=self.size, seed=seed)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        warmup_fraction = self.objective.settings.warmup_fraction
        return self.peak_rate * rate_factor(step, self.steps, warmup_fraction=warmup_fraction)


def limited(phases: Sequence[Phase], most: int | None) -> list[Phase]:
    """The phases, of at most so many steps together."""
    found: list[Phase] = []
    for phase in phases:
        left = None if most is None else most - sum(each.steps for each in found)
        if left is None or left > 0:
            found.append(replace(phase, most_steps=left))
    return found


def phase_at(phases: Sequence[Phase], step: int) -> tuple[Phase, int]:
    """The phase that step `step` (from 1) of the whole belongs to, and its number there (from 1)."""
    for phase in phases:
        if step <= phase.steps:
            return phase, step
        step -= phase.steps
    raise ValueError("no such step")


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
