"""What `test_ranks` has torchrun start: one step on some groups; the first rank writes gradients and metrics down."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.factories.serving import random_model
from tests.trainer.test_loop import dpo, pair, ranking, reference_for
from trainer.logps import fitting_scorer
from trainer.memory import Limits
from trainer.rankings import Verdict
from trainer.ranks import joined
from trainer.step import training_step


def main(count: int, path: Path) -> None:
    """Take the step with so many comparisons, of very different lengths."""
    torch.set_num_threads(1)
    whole = Verdict((2, 1, 2, 3), (0, 0, 0, 0), 0.5)
    groups = [ranking(whole), *(pair(number, weight=1 / (1 + number)) for number in range(6))][:count]
    scorer = fitting_scorer(random_model(seed=4)[0])
    scorer.limits = Limits(tokens=40)
    optimizer = torch.optim.SGD(scorer.model.parameters())
    with joined() as ranks:
        figures = training_step(
            scorer, optimizer, groups, reference_for(groups), dpo(max_grad_norm=1e9), rate=0.1, mean_weight=0.7,
            ranks=ranks,
        )  # fmt: skip
        if ranks.leads:
            gradients = {name: parameter.grad for name, parameter in scorer.model.named_parameters()}
            torch.save({"figures": figures, "gradients": gradients, "model": scorer.model.state_dict()}, path)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
