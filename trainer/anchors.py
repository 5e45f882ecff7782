"""The reward that is neither good nor bad, for methods that look at completions one by one (KTO, BCO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer.groups import Group
from trainer.logps import Scorer
from trainer.packing import Tokens
from trainer.reference import Reference


def mismatched(groups: Sequence[Group], *, max_tokens: int) -> list[Tokens | None]:
    """For each group its prompt with a completion of the next one of another prompt; None where there is no such, or
    where the two are longer than the model reads.

    Completions that nobody would give for a prompt show how far the policy has moved as a whole, rather than on what it
    was praised for. The same ones all through a run, so that the reference is asked about each but once.
    """
    found: list[Tokens | None] = [None] * len(groups)
    other: Group | None = None
    for number in reversed(range(2 * len(groups))):  # twice round, so that the last ones find the first
        group, following = groups[number % len(groups)], groups[(number + 1) % len(groups)]
        if following.prompt != group.prompt:
            other = following
        found[number % len(groups)] = Tokens(group.prompt, other.completions[0]) if other is not None else None
    return [sequence if sequence is not None and len(sequence) <= max_tokens else None for sequence in found]


def kl_anchor(scorer: Scorer, reference: Reference, sequences: Sequence[Tokens], *, beta: float) -> float:
    """Beta times the mean log-ratio of mismatched sequences, in nats, at least 0: the anchor of KTO."""
    if not sequences:
        return 0.0
    logps = scorer.sequence_logps(sequences)
    log_ratios = torch.tensor(logps, dtype=torch.float64) - reference.logps(sequences)
    return max(0.0, beta * float(log_ratios.mean()))


@dataclass(frozen=True)
class RunningMean:
    """The mean of all rewards seen so far in a training: the anchor of BCO."""

    mean: float = 0.0
    count: int = 0

    def with_more(self, mean: float, count: int) -> RunningMean:
        """After `count` more rewards of this mean."""
        total = self.count + count
        return RunningMean(self.mean + (mean - self.mean) * count / total, total)
