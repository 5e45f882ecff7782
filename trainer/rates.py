"""The learning rate of a run that names none: by the size of the model, and by what is trained on what."""

from __future__ import annotations

from pathlib import Path

from trainer.contract.run import Method, Tuning
from trainer.models import stored_parameters
from trainer.tuning import Plan

HIGHEST = 2e-4
"""Of any run that names none. On the starter model it was chosen by measuring; see docs/training.md, "Why 2e-4"."""
SMALL_PARAMETERS = 20_000_000
"""Up to this size all weights are trained on preferences at `HIGHEST`; beyond it the rate falls in proportion."""
MORE = 10
"""Times the rate, for an adapter, and once more where likelihoods or a fresh head are learnt."""


def usual_rate(method: Method, plan: Plan) -> float:
    """The highest learning rate of a phase of `method`. Raises ModelError where the start's files cannot be read.

    All weights on preferences: 2e-4 up to 20 million parameters, from there on in inverse proportion to the size. That
    is 5.7e-7 at 7 billion, where Zephyr's recipe has 5e-7 (arXiv:2310.16944). An adapter takes ten times as much, as
    the same recipe by LoRA does and as Schulman et al. find ("LoRA Without Regret", 2025); so do demonstrations and
    reward models (InstructGPT's, of 6 billion, took 9e-6; arXiv:2203.02155). Never more than 2e-4; of two digits.
    """
    rate = HIGHEST * min(1.0, SMALL_PARAMETERS / max(1, stored_parameters(Path(plan.base.path))))
    if plan.kind is not Tuning.FULL:
        rate *= MORE
    if method in {Method.SFT, Method.REWARD_MODEL}:
        rate *= MORE
    return float(f"{min(HIGHEST, rate):.2g}")
