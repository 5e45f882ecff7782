"""How fast a training goes, and how long the whole run will still take, told by the steps just done."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from trainer.contract.run import Stage

LEAST_SECONDS = 3.0
LEAST_STEPS = 3
"""What must have been seen before anything is said: first steps are slow, and a guess that jumps is worse than none."""
WINDOW_SECONDS = 60.0
WINDOW_STEPS = 40
"""What is looked back on, whichever is more: evaluations between the steps are part of it."""


class Mark(NamedTuple):
    """Where a training stood: seconds of it, pauses left out, steps done and tokens seen."""

    seconds: float
    step: int
    tokens: int


class Pace:
    """Speed and time left. A trainer that takes a run up anew begins to look anew."""

    def __init__(self) -> None:
        self.most_seconds = math.inf
        """At which training ends at the latest."""
        self._marks: deque[Mark] = deque()

    def figures(
        self, stage: Stage, share: float, seconds: Mapping[str, float], row: Mapping[str, Any]
    ) -> dict[str, float]:
        """`tokens_per_second` and `seconds_left`, as far as they can be told, when a row of metrics is written.

        `share` (0 to 1) of the stage is done, `seconds` were spent in each, and the row may tell of a step. What comes
        after training is taken to last as long as what came before: the same is measured.
        """
        measuring = seconds.get(Stage.BEFORE, 0.0)
        if stage is Stage.AFTER and measuring:
            return {"seconds_left": round(measuring * (1 - share), 1)}
        if stage is not Stage.TRAINING or "step" not in row:
            return {}
        self._note(Mark(seconds[Stage.TRAINING], row["step"], row.get("tokens") or 0))
        first, last = self._marks[0], self._marks[-1]
        passed, steps = last.seconds - first.seconds, last.step - first.step
        if passed < LEAST_SECONDS or steps < LEAST_STEPS:
            return {}
        training = min((row["total_steps"] - last.step) * passed / steps, max(0.0, self.most_seconds - last.seconds))
        return {
            "tokens_per_second": round((last.tokens - first.tokens) / passed, 1),
            "seconds_left": round(training + measuring, 1),
        }

    def _note(self, mark: Mark) -> None:
        self._marks.append(mark)
        while len(self._marks) > WINDOW_STEPS + 1 and mark.seconds - self._marks[1].seconds >= WINDOW_SECONDS:
            self._marks.popleft()
