"""What `test_memory` starts: some steps and some drawing in a process of its own, which prints by how many bytes its
memory grew at the most. Arguments: `fitting` for what fits in memory at once, else as much as is of use; the bytes that
are said to be left."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.factories.serving import tiny_config
from tests.trainer.test_loop import dpo
from trainer import memory
from trainer.allocator import keep_freed_memory
from trainer.drawing import Drawing, draw_completions
from trainer.groups import Group
from trainer.logps import Scorer, fitting_scorer
from trainer.memory import Limits, fitting_limits
from trainer.rankings import Verdict
from trainer.reference import prepare_reference
from trainer.step import training_step

DRAWING = Drawing(copies=32, temperature=1.0, top_p=0.95, max_tokens=8, seed=1)
"""Of random models, whose nucleus is most of the vocabulary."""


def main(how: str, left: int) -> None:
    """Train on a batch whose logits alone are several hundred megabytes, and draw."""
    keep_freed_memory()
    torch.set_num_threads(1)
    groups = [some_group(number) for number in range(32)]
    policy, frozen = some_scorer(seed=1), some_scorer(seed=2)
    frozen.model.requires_grad_(False)
    before = bytes_of("VmRSS")
    memory.bytes_left = lambda device: left
    limits = fitting_limits(policy, [group.tree for group in groups], drifts=True) if how == "fitting" else Limits()
    policy.limits = frozen.limits = limits
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    reference, _ = prepare_reference(
        frozen,
        sequences,
        table={},
        with_distributions_of=sequences,
        on_progress=lambda share: None,
        most_bytes=limits.reference_bytes,
    )
    optimizer = torch.optim.AdamW(policy.model.parameters(), fused=True)
    for _ in range(3):
        training_step(policy, optimizer, groups, reference, dpo(), rate=1e-6, mean_weight=1.0)
    draw_completions(policy.model, [group.prompt for group in groups], DRAWING, end_ids={1}, limits=limits)
    print(bytes_of("VmHWM") - before)


def some_scorer(*, seed: int) -> Scorer:
    """A random model with a large vocabulary for its size."""
    torch.manual_seed(seed)
    return fitting_scorer(AutoModelForCausalLM.from_config(tiny_config("llama", vocabulary=20_000, context=1024)))


def some_group(number: int) -> Group:
    """A long prompt and two completions."""
    return Group(
        prompt_id=str(number),
        prompt=tuple(range(2, 300)),
        completion_ids=("a", "b"),
        completions=(tuple(range(number + 2, number + 202)), tuple(range(900 + number, 1000 + number))),
        verdicts=(Verdict(ranks=(1, 2), heights=(0, 0), weight=1.0),),
    )


def bytes_of(name: str) -> int:
    """What the system says of this process's memory."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
