"""When a training ends before its last step: held-out rankings are no longer learnt, or the policy comes apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from trainer.contract.run import Budget


@dataclass(frozen=True)
class Progress:
    """How held-out accuracy has come along. Of equally accurate steps the one of larger margin is the best.

    `reward_accuracy` is the most by the implicit reward. Where completions are long their likelihoods lie so far apart
    that training changes the order of few, while it can still be learning which is preferred.
    """

    best_step: int = 0
    accuracy: float = -math.inf
    margin: float = -math.inf
    since_better: int = 0
    """Evaluations since either accuracy last rose."""
    reward_accuracy: float = -math.inf

    def after(self, step: int, figures: Mapping[str, float]) -> Progress:
        """With one more evaluation; the same where no pair is held out."""
        if "held_out_accuracy" not in figures:
            return self
        accuracy, margin = figures["held_out_accuracy"], figures["held_out_margin"]
        rewarded = figures["held_out_reward_accuracy"]
        has_risen = accuracy > self.accuracy or rewarded > self.reward_accuracy
        progress = replace(
            self,
            since_better=0 if has_risen else self.since_better + 1,
            reward_accuracy=max(rewarded, self.reward_accuracy),
        )
        if (accuracy, margin) > (self.accuracy, self.margin):
            return replace(progress, best_step=step, accuracy=accuracy, margin=margin)
        return progress


def why_stop(progress: Progress, figures: Mapping[str, float], budget: Budget) -> str:
    """Why training should go no further after an evaluation, in words; empty where it should go on."""
    patience = budget.stop_after_evaluations
    if patience and progress.since_better >= patience:
        return (
            f"Held-out accuracy had not risen for {patience} evaluations in a row, so training stopped early; the "
            f"version has the weights of step {progress.best_step}, the best so far."
        )
    fall, most = figures.get("held_out_chosen_fall", 0.0), budget.most_chosen_fall
    if most is not None and fall > most:
        return (
            f"Chosen completions that were held out had become less likely by {fall:.2f} nats per token, more than the "
            f"{most:g} allowed, so training stopped early. Start a new run with a lower learning rate, fewer epochs or "
            "a larger likelihood weight."
        )
    return ""
