"""What `test_ranks` has torchrun start: two steps on some groups; the first rank writes down what came of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from tests.factories.serving import random_model
from tests.trainer.test_loop import dpo, pair, ranking, reference_for
from trainer.adapters import new_adapter, train_adapter_alone
from trainer.logps import fitting_scorer
from trainer.memory import REFERENCE_BYTES, Limits
from trainer.rankings import Verdict
from trainer.ranks import Ranks, joined
from trainer.sharding import keep_together, reshard, shard, whole
from trainer.step import training_step


def main(folder: Path, cases: list[str]) -> None:
    """Carry out cases such as `7: sharded, tied`, each into a file of its own."""
    torch.set_num_threads(1)
    with joined() as ranks:
        for number, case in enumerate(cases):
            count, _, layout = case.partition(": ")
            found = two_steps(int(count), layout, replace(ranks, sharded="sharded" in layout and ranks.count > 1))
            if ranks.leads:
                torch.save(found, folder / f"{number}-{ranks.count}.pt")


def two_steps(count: int, layout: str, ranks: Ranks) -> dict[str, Any]:
    """Take the steps with so many comparisons, of very different lengths. `layout` says how, in words of its own:
    sharded, tied, adapter, anew (the reference's distributions)."""
    several = Verdict((2, 1, 2, 3), (0, 0, 0, 0), 0.5)
    groups = [ranking(several), *(pair(number, weight=1 / (1 + number)) for number in range(6))][:count]
    model = random_model(seed=4, architecture="gpt2" if "tied" in layout else "llama")[0]
    if "adapter" in layout:
        new_adapter(model, rank=4, alpha=8, seed=1)
        train_adapter_alone(model)
    scorer = fitting_scorer(model)
    scorer.limits = Limits(tokens=40)
    reference = reference_for(groups, most_bytes=0 if "anew" in layout else REFERENCE_BYTES)
    if ranks.sharded:
        shard(model, ranks, announced_as=None)
        shard(reference.scorer.model, ranks, announced_as=None)
        keep_together(reference.scorer.model)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], eps=1.0)  # near SGD
    objective = dpo(max_grad_norm=1e9, drift_weight=0.3)
    steps = [
        training_step(scorer, optimizer, groups, reference, objective, rate=0.01, mean_weight=0.7, ranks=ranks)
        for _ in range(2)
    ]
    reshard(model)
    return {
        "steps": steps,
        "held": sum(held_of(each).numel() for each in model.parameters()),
        "moments": sum(held_of(state["exp_avg"]).numel() for state in optimizer.state.values()),
        "gradients": whole({name: each.grad for name, each in model.named_parameters() if each.grad is not None}),
        "model": whole({name: each.detach() for name, each in model.named_parameters()}),
    }


def held_of(tensor: torch.Tensor) -> torch.Tensor:
    """What this process itself holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
