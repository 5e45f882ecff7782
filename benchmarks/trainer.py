"""A training step of Palate against one of TRL's DPOTrainer, on the same preferences with the same loss.

    python -m benchmarks.trainer [--rounds 5] [--workloads pairs-100-200 pairs-800-150 rankings-300-150]
                                 [--matrices torch|onednn]

A random Llama of 22 million parameters (vocabulary 32,000), float32, one thread; the log-probabilities of the reference
are known beforehand on both sides. A step is forward, backward, clipping and AdamW. Lengths are drawn within a quarter
of those named. Arms take turns within one run, medians are of CPU seconds. TRL gets a ranking as the pairs that it
makes; "completions only" is TRL told to score completion tokens alone (as it does on GPUs) and given pairs sorted by
length. Before anything is timed, losses must agree. Palate multiplies matrices as in a run: by the faster library.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from tests.factories.serving import byte_tokenizer
from trainer.contract.run import Hyperparameters, Matrices, Method
from trainer.groups import Group, preference_pairs
from trainer.logps import fitting_scorer
from trainer.matrices import fitting_matrices, multiplied_by
from trainer.preferences import Objective
from trainer.rankings import Verdict
from trainer.reference import Reference, prepare_reference
from trainer.step import training_step

VOCABULARY = 32_000
BETA = 0.1


@dataclass(frozen=True)
class Workload:
    """How long prompts and completions are, in tokens, how many completions are ranked, and comparisons in a step."""

    prompt: int
    completion: int
    completions: int
    comparisons: int

    def groups(self) -> list[Group]:
        """One batch, each comparison ranked in the order in which its completions stand."""
        rng = random.Random(5)  # noqa: S311  (not a secret)

        def tokens(count: int) -> tuple[int, ...]:
            return tuple(rng.randrange(10, VOCABULARY) for _ in range(rng.randint(count * 3 // 4, count * 5 // 4)))

        ranks = tuple(range(1, self.completions + 1))
        return [
            Group(
                prompt_id=str(number),
                prompt=tokens(self.prompt),
                completion_ids=tuple(map(str, ranks)),
                completions=tuple(tokens(self.completion) for _ in ranks),
                verdicts=(Verdict(ranks, (0,) * len(ranks), 1.0),),
            )
            for number in range(self.comparisons)
        ]


WORKLOADS = {
    "pairs-100-200": Workload(prompt=100, completion=200, completions=2, comparisons=8),
    "pairs-800-150": Workload(prompt=800, completion=150, completions=2, comparisons=4),
    "rankings-300-150": Workload(prompt=300, completion=150, completions=4, comparisons=2),
}
ARMS = ("palate", "trl", "trl, completions only")

Step = Callable[[], float]
"""Does a training step and returns the loss before it, as the mean over pairs."""


def main() -> None:
    """Check, measure, and print a table per workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--matrices", choices=list(Matrices), type=Matrices, help="instead of the faster library")
    parser.add_argument("--peak-of", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    warnings.filterwarnings("ignore")
    matrices = options.matrices or fitting_matrices(random_llama(1))
    print(f"Palate's matrices are multiplied by {matrices}.")
    for name in options.workloads:
        if options.peak_of:
            print(peak_megabytes(WORKLOADS[name], options.peak_of, matrices))
        else:
            compare(name, WORKLOADS[name], matrices, rounds=options.rounds)


def compare(name: str, workload: Workload, matrices: Matrices, *, rounds: int) -> None:
    """One table: what each arm takes for the same step."""
    groups = workload.groups()
    with tempfile.TemporaryDirectory(prefix="palate-trainer-") as folder:
        steps = {arm: step_of(arm, groups, folder, matrices) for arm in ARMS}
        agree(groups, folder, matrices)
        for step in steps.values():
            step()
        cpu: dict[str, list[float]] = {arm: [] for arm in ARMS}
        wall: dict[str, list[float]] = {arm: [] for arm in ARMS}
        rates: list[float] = []
        for _ in range(rounds):
            rates.append(matrix_rate(matrices))
            for arm, step in steps.items():
                begun, clock = time.process_time(), time.perf_counter()
                step()
                cpu[arm].append(time.process_time() - begun)
                wall[arm].append(time.perf_counter() - clock)
    floor = floor_flops(groups)
    rate = median(rates)
    ours = median(cpu["palate"])
    print(f"\n{name}: {len(groups)} comparisons of {workload.completions} completions, {rounds} rounds")
    print(f"floor: {floor / 1e9:.0f} GFLOP, {floor / rate:.2f} s at the {rate / 1e9:.0f} GFLOP/s of one matrix product")
    print("| arm | CPU s | wall s | times Palate | times the floor | peak MB of the step |")
    print("|---|---:|---:|---:|---:|---:|")
    for arm in ARMS:
        spent = median(cpu[arm])
        print(
            f"| {arm} | {spent:.2f} | {median(wall[arm]):.2f} | {spent / ours:.2f} "
            f"| {spent / (floor / rate):.2f} | {_peak(name, arm, matrices)} |"
        )


def step_of(arm: str, groups: Sequence[Group], folder: str, matrices: Matrices) -> Step:
    """The step of an arm, ready to be taken again and again."""
    if arm == "palate":
        return palate_step(groups, matrices)
    return trl_step(groups, folder, completions_only=arm != "trl")


def agree(groups: Sequence[Group], folder: str, matrices: Matrices) -> None:
    """Compare first losses on the same preferences as pairs; ends the program where they differ."""
    theirs = [trl_step(groups, folder, completions_only=arm != "trl")() for arm in ARMS[1:]]
    losses = [palate_step(groups, matrices, as_pairs=True)(), *theirs]
    print(f"losses: {', '.join(f'{loss:.6f}' for loss in losses)}")
    if max(losses) - min(losses) > 1e-5 * max(losses):
        raise SystemExit("The losses differ: nothing is worth timing.")


def random_llama(seed: int) -> LlamaForCausalLM:
    """22 million parameters, of which 12.3 are the tied embedding and head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.eval()
    return model


def reference_for(groups: Sequence[Group]) -> Reference:
    """Another random model, which has been asked about all completions."""
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    scorer = fitting_scorer(random_llama(2))
    return prepare_reference(scorer, sequences, table={}, with_distributions_of=[], on_progress=lambda share: None)[0]


def palate_step(groups: Sequence[Group], matrices: Matrices, *, as_pairs: bool = False) -> Step:
    """A step of Palate's loop, with the preference loss alone, as TRL has it."""
    scorer = fitting_scorer(random_llama(1))
    scorer.matrices = matrices
    reference = reference_for(groups)
    optimizer = torch.optim.AdamW(scorer.model.parameters(), weight_decay=0.0, fused=True)
    rankings = "pairs" if as_pairs else "plackett_luce"
    settings = Hyperparameters(beta=BETA, likelihood_weight=0, drift_weight=0, rankings=rankings)
    objective = Objective(Method.DPO, settings)
    pairs_of_one = len(groups[0].completions) / 2  # by weight: K(K - 1)/2 pairs of 1/(K - 1) each

    def step() -> float:
        figures = training_step(scorer, optimizer, groups, reference, objective, rate=1e-6, mean_weight=1.0)
        return figures["loss"] / pairs_of_one

    return step


def trl_step(groups: Sequence[Group], folder: str, *, completions_only: bool) -> Step:
    """A step of TRL's DPOTrainer at its best settings for a CPU."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer import utils

    reference = reference_for(groups)
    pairs = preference_pairs(groups)
    if completions_only:
        pairs = sorted(pairs, key=lambda pair: -max(len(pair.chosen), len(pair.rejected)))
    rows = [
        {
            "prompt_ids": list(pair.chosen.prompt),
            "chosen_ids": list(pair.chosen.completion),
            "rejected_ids": list(pair.rejected.completion),
            "ref_chosen_logps": float(reference.logps([pair.chosen])),
            "ref_rejected_logps": float(reference.logps([pair.rejected])),
        }
        for pair in pairs
    ]
    model = random_llama(1)
    config = DPOConfig(
        output_dir=folder, beta=BETA, use_cpu=True, bf16=False, report_to="none", max_length=None,
        gradient_checkpointing=False, precompute_ref_log_probs=True,
    )  # fmt: skip
    plain = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}
    trainer: Any = DPOTrainer(
        model, random_llama(2), args=config, train_dataset=Dataset.from_dict(plain), processing_class=byte_tokenizer()
    )
    trainer.precompute_ref_logps = True
    batches = [trainer.data_collator(part) for part in _parts(rows, 8 if completions_only else len(rows))]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        chosen = utils._use_triton
        utils._use_triton = (lambda device: True) if completions_only else chosen
        try:
            for batch in batches:
                loss = trainer.compute_loss(model, dict(batch)) * len(batch["ref_chosen_logps"]) / len(rows)
                loss.backward()
                total += float(loss.detach())
        finally:
            utils._use_triton = chosen
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for settings in optimizer.param_groups:
            settings["lr"] = 1e-6
        optimizer.step()
        return total

    return step


def _parts(rows: list[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def floor_flops(groups: Sequence[Group]) -> float:
    """What no exact step can do without: each token's weights once forward and twice backward, each completion token's
    head likewise, and every attention score and its value (forward two products, backward four)."""
    model = random_llama(1)
    config = model.config
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and p.dim() == 2)
    flops = 0.0
    for group in groups:
        tree = group.tree
        flops += 6 * body * tree.read_tokens + 6 * VOCABULARY * config.hidden_size * tree.scored_tokens
        prompt, branches = len(tree.prompt), [len(each) - 1 for each in tree.completions]
        scores = prompt**2 / 2 + sum(each**2 / 2 + each * prompt for each in branches)
        flops += 6 * 2 * scores * config.hidden_size * config.num_hidden_layers
    return flops


def matrix_rate(matrices: Matrices) -> float:
    """FLOPs per second of CPU time in one large product, the best of five."""
    given, weight = torch.randn(512, 384), torch.randn(4096, 384)
    best = 0.0
    for _ in range(5):
        begun = time.process_time()
        with multiplied_by(matrices):
            for _ in range(10):
                torch.nn.functional.linear(given, weight)
        best = max(best, 10 * 2 * 512 * 384 * 4096 / (time.process_time() - begun))
    return best


def _peak(name: str, arm: str, matrices: Matrices) -> str:
    """The peak in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.trainer",
        "--workloads",
        name,
        "--peak-of",
        arm,
        "--matrices",
        matrices,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


def peak_megabytes(workload: Workload, arm: str, matrices: Matrices) -> int:
    """How much more memory than before the process holds at most during its first two steps (Linux)."""
    with tempfile.TemporaryDirectory(prefix="palate-trainer-") as folder:
        step = step_of(arm, workload.groups(), folder, matrices)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, and that of whoever started this
        before = _peak_kilobytes()
        step()
        step()
        return (_peak_kilobytes() - before) // 1024


def _peak_kilobytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


if __name__ == "__main__":
    main()
