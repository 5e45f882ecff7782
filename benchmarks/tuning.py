"""A training step with an adapter on all layers, and with one on the top layers over a trunk that is kept.

    python -m benchmarks.tuning [--rounds 5] [--layers 2] [--workloads pairs-100-200 pairs-800-150]

A random Llama of 12.5 million parameters (8 layers of width 320, vocabulary 8,192), float32, one thread, adapters of
rank 16, the reference known beforehand. A step is forward, backward, clipping and AdamW, on the same batch; arms take
turns within one run, medians are of CPU seconds. The trunk's first computation, done once per run, is told apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import torch

from benchmarks.serving import VOCABULARY, random_llama
from benchmarks.trainer import WORKLOADS, Workload
from trainer.adapters import decoder_layers, new_adapter, train_adapter_alone
from trainer.contract.run import Hyperparameters, Method
from trainer.groups import Group
from trainer.logps import fitting_scorer
from trainer.preferences import Objective
from trainer.reference import Reference, prepare_reference
from trainer.step import training_step
from trainer.trunk import kept_trunk

RANK = 16
Step = Callable[[], None]


def main() -> None:
    """Measure, and print a table per workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=["pairs-100-200", "pairs-800-150"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.workloads:
        compare(name, WORKLOADS[name], rounds=options.rounds, layers=options.layers)


def compare(name: str, workload: Workload, *, rounds: int, layers: int) -> None:
    """Every arm in turns, on one batch."""
    groups = [_within(group) for group in workload.groups()]
    reference = _reference(groups)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="palate-tuning-")))
        top = f"an adapter on the top {layers} layers"
        arms = {
            "all weights": _step(groups, reference, stack, tuned=None),
            "an adapter on all layers": _step(groups, reference, stack, tuned=0),
            f"{top}, nothing kept": _step(groups, reference, stack, tuned=layers),
            f"{top}, the trunk kept": _step(groups, reference, stack, tuned=layers, trunk=folder / "trunk"),
        }
        first = {arm: _timed(step) for arm, step in arms.items()}
        found: dict[str, list[float]] = {arm: [] for arm in arms}
        for _ in range(rounds):
            for arm, step in arms.items():
                found[arm].append(_timed(step))
    whole = median(found["an adapter on all layers"])
    print(f"| {name} | CPU seconds a step | the first one | times as fast as on all layers |\n|---|---|---|---|")
    for arm, times in found.items():
        print(f"| {arm} | {median(times):.3f} | {first[arm]:.3f} | {whole / median(times):.2f} |")
    print(flush=True)


def _within(group: Group) -> Group:
    completions = tuple(tuple(token % VOCABULARY for token in completion) for completion in group.completions)
    prompt = tuple(token % VOCABULARY for token in group.prompt)
    return Group(group.prompt_id, prompt, group.completion_ids, completions, group.verdicts)


def _reference(groups: Sequence[Group]) -> Reference:
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    scorer = fitting_scorer(random_llama(torch.device("cpu"))[0])
    return prepare_reference(
        scorer, sequences, table={}, with_distributions_of=[], on_progress=lambda share: None
    )[0]  # fmt: skip


def _step(
    groups: Sequence[Group], reference: Reference, stack: ExitStack, *, tuned: int | None, trunk: Path | None = None
) -> Step:
    """A step that trains all weights (None), an adapter on all layers (0), or on so many of the topmost."""
    model, _ = random_llama(torch.device("cpu"))
    layers = decoder_layers(model)[-tuned:] if tuned else None
    if tuned is not None:
        new_adapter(model, rank=RANK, alpha=2 * RANK, seed=1, layers=layers)
        train_adapter_alone(model, layers=layers)
    scorer = fitting_scorer(model)
    if trunk is not None:
        stack.enter_context(kept_trunk(scorer, layers, trunk))
        assert scorer.trunk is not None
    objective = Objective(Method.DPO, Hyperparameters(drift_weight=0.0))
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], fused=True)

    def step() -> None:
        training_step(scorer, optimizer, groups, reference, objective, rate=1e-5, mean_weight=1.0)

    return step


def _timed(step: Step) -> float:
    begun = time.process_time()
    step()
    return time.process_time() - begun


if __name__ == "__main__":
    main()
