"""A training step of Palate against one of TRL's DPOTrainer, on the same preferences with the same loss.

    python -m benchmarks.trainer [--rounds 5] [--workloads pairs-100-200 pairs-800-150 rankings-300-150]
                                 [--matrices torch|onednn] [--device cpu|cuda] [--all-keep-memory]

A random Llama of 22 million parameters (vocabulary 32,000), float32, one thread; the log-probabilities of the reference
are known beforehand on both sides. A step is forward, backward, clipping and AdamW. Lengths are drawn within a quarter
of those named. Each arm is a process; they take turns within one run, medians are of CPU seconds. TRL gets a ranking
as the pairs that it makes; "completions only" is TRL told to score completion tokens alone (as it does on GPUs) and
given pairs sorted by length. Before anything is timed, losses must agree. Palate's process is as in a run: it
multiplies matrices by the faster library and holds on to freed memory (`trainer/allocator.py`), in a further arm it
does not; TRL's can be told to hold on as well.

On a GPU both sides compute in bfloat16 on a Llama of 362 million parameters (vocabulary 49,152) and take four times
as many comparisons; medians are of the clock. TRL scores completion tokens alone there by itself: in both its arms.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from tests.factories.serving import byte_tokenizer
from trainer.allocator import keep_freed_memory
from trainer.contract.run import Hyperparameters, Matrices, Method
from trainer.groups import Group, preference_pairs
from trainer.logps import fitting_scorer
from trainer.matrices import fitting_matrices, multiplied_by
from trainer.memory import fitting_limits
from trainer.preferences import Objective
from trainer.rankings import Verdict
from trainer.reference import Reference, prepare_reference
from trainer.step import training_step

VOCABULARY = 32_000
BETA = 0.1


@dataclass(frozen=True)
class Place:
    """Where the arms compute, and how."""

    device: torch.device
    matrices: Matrices

    @property
    def on_gpu(self) -> bool:
        """Whether it is one."""
        return self.device.type == "cuda"

    @property
    def autocast(self) -> torch.dtype | None:
        """The number format of matrix products, where it is not float32."""
        return torch.bfloat16 if self.on_gpu else None

    def casting(self) -> AbstractContextManager[Any]:
        """What TRL's forwards are within, as its trainer has them."""
        return torch.autocast(self.device.type, self.autocast, enabled=self.on_gpu)

    def model(self, seed: int) -> LlamaForCausalLM:
        """A random model of the size that suits the place."""
        with self.device:
            return random_llama(seed, **(LARGE if self.on_gpu else {}))

    def forget_peak(self) -> int:
        """Measure a GPU's peak of memory anew, and return the bytes that are held now."""
        if not self.on_gpu:
            return 0
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def peak_megabytes(self, held: int) -> int:
        """By how much a GPU's peak since then is above what was held; none on a CPU."""
        return (torch.cuda.max_memory_allocated() - held) // 2**20 if self.on_gpu else 0

    def make_room(self) -> None:
        """Leave what is unused of a GPU's memory to others."""
        if self.on_gpu:
            torch.cuda.empty_cache()

    def now(self) -> tuple[float, float]:
        """CPU seconds and the clock, once all that was asked for is computed."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.process_time(), time.perf_counter()


@dataclass(frozen=True)
class Workload:
    """How long prompts and completions are, in tokens, how many completions are ranked, and comparisons in a step."""

    prompt: int
    completion: int
    completions: int
    comparisons: int

    def groups(self, times: int = 1) -> list[Group]:
        """One batch of so many `times` the comparisons, each ranked in the order in which its completions stand."""
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
            for number in range(times * self.comparisons)
        ]


WORKLOADS = {
    "pairs-100-200": Workload(prompt=100, completion=200, completions=2, comparisons=8),
    "pairs-800-150": Workload(prompt=800, completion=150, completions=2, comparisons=4),
    "rankings-300-150": Workload(prompt=300, completion=150, completions=4, comparisons=2),
}
ARMS = ("palate", "palate, memory given back", "trl", "trl, completions only")
OF_TRL = ARMS[2:]
AS_PAIRS = "palate, as pairs"
"""Palate on the pairs that TRL is given, which is for comparing losses."""
LARGE = {
    "vocab_size": 49_152,
    "hidden_size": 960,
    "intermediate_size": 2560,
    "num_hidden_layers": 32,
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
}
"""362 million parameters."""
TIMES_ON_A_GPU = 4
BFLOAT16_LOSS = 0.01
"""By how much, relatively, losses in bfloat16 may differ."""

Step = Callable[[], float]
"""Does a training step and returns the loss before it, as the mean over pairs."""


def main() -> None:
    """Check, measure, and print a table per workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--matrices", choices=list(Matrices), type=Matrices, help="instead of the faster library")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--all-keep-memory",
        action="store_true",
        help="have TRL hold on to freed memory too, as Palate does",
    )
    options = parser.parse_args()
    calm()
    on_gpu = options.device == "cuda"
    matrices = options.matrices or (Matrices.TORCH if on_gpu else fitting_matrices(random_llama(1)))
    place = Place(torch.device(options.device), matrices)
    print(f"Palate's matrices are multiplied by {matrices}.")
    for name in options.workloads:
        compare(name, WORKLOADS[name], place, rounds=options.rounds, all_keep_memory=options.all_keep_memory)


def compare(name: str, workload: Workload, place: Place, *, rounds: int, all_keep_memory: bool) -> None:
    """One table: what each arm takes for the same step."""
    groups = workload.groups(TIMES_ON_A_GPU if place.on_gpu else 1)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="palate-trainer-"))

        def begin(arm: str) -> Arm:
            keeps_memory = arm == ARMS[0] or (all_keep_memory and arm in OF_TRL)
            return stack.enter_context(begun(arm, groups, place, Path(folder), keeps_memory=keeps_memory))

        arms = {arm: begin(arm) for arm in ARMS}
        with begun(AS_PAIRS, groups, place, Path(folder), keeps_memory=True) as as_pairs:
            agree([as_pairs.first_loss, *(arms[arm].first_loss for arm in OF_TRL)], place)
        rates: list[float] = []
        for _ in range(rounds):
            rates.append(matrix_rate(place))
            for arm in arms.values():
                arm.take_a_step()
    floor = floor_flops(groups, place)
    rate = median(rates)
    ours = arms[ARMS[0]].seconds(place)
    print(f"\n{name}: {len(groups)} comparisons of {workload.completions} completions, {rounds} rounds")
    print(f"floor: {floor / 1e9:.0f} GFLOP, {floor / rate:.4g} s at the {rate / 1e9:.0f} GFLOP/s of one matrix product")
    print("| arm | CPU s | wall s | times Palate | times the floor | peak MB of the step |")
    print("|---|---:|---:|---:|---:|---:|")
    for title, arm in arms.items():
        spent = arm.seconds(place)
        print(
            f"| {title} | {median(arm.cpu):.3g} | {median(arm.wall):.3g} | {spent / ours:.2f} "
            f"| {spent / (floor / rate):.2f} | {arm.peak_megabytes} |"
        )


class Arm:
    """A process that takes the steps of one arm when it is told to, and what they took."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.first_loss, self.peak_megabytes = connection.recv()
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def take_a_step(self) -> None:
        """One more step, timed."""
        self._connection.send(True)
        cpu, wall, peak_megabytes = self._connection.recv()
        self.cpu.append(cpu)
        self.wall.append(wall)
        self.peak_megabytes = max(self.peak_megabytes, peak_megabytes)

    def seconds(self, place: Place) -> float:
        """The median of what counts there."""
        return median(self.wall if place.on_gpu else self.cpu)


@contextmanager
def begun(arm: str, groups: Sequence[Group], place: Place, folder: Path, *, keeps_memory: bool) -> Iterator[Arm]:
    """An arm in a process of its own, which has taken two steps; it ends with the block."""
    processes = get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=take_steps, args=(there, arm, groups, place, folder / arm, keeps_memory))
    process.start()
    there.close()
    try:
        yield Arm(here)
    finally:
        here.close()
        process.join()


def take_steps(  # noqa: PLR0917  (handed to a process)
    connection: Connection, arm: str, groups: Sequence[Group], place: Place, folder: Path, keeps_memory: bool
) -> None:
    """What the process of an arm does: two steps, then one whenever it is told to, until nobody is there to do so."""
    if keeps_memory:
        keep_freed_memory()
    calm()
    step = step_of(arm, groups, folder, place)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far, and that of whoever started this
    before = _peak_kilobytes()
    first_loss = step()
    step()
    place.make_room()
    connection.send((first_loss, 0 if place.on_gpu else (_peak_kilobytes() - before) // 1024))
    with suppress(EOFError):
        while connection.recv():
            if place.on_gpu:
                step()  # which takes its memory anew
            held = place.forget_peak()
            begun_at, clock = place.now()
            step()
            ended_at, then = place.now()
            peak_megabytes = place.peak_megabytes(held)
            place.make_room()
            connection.send((ended_at - begun_at, then - clock, peak_megabytes))


def calm() -> None:
    """One thread, and nothing said beside the table."""
    torch.set_num_threads(1)
    disable_progress_bar()
    warnings.filterwarnings("ignore")


def step_of(arm: str, groups: Sequence[Group], folder: Path, place: Place) -> Step:
    """The step of an arm, ready to be taken again and again."""
    if arm in OF_TRL:
        return trl_step(groups, str(folder), place, completions_only=arm != "trl")
    return palate_step(groups, place, as_pairs=arm == AS_PAIRS)


def agree(losses: Sequence[float], place: Place) -> None:
    """Compare first losses on the same preferences as pairs; ends the program where they differ."""
    print(f"losses: {', '.join(f'{loss:.6f}' for loss in losses)}")
    if max(losses) - min(losses) > (BFLOAT16_LOSS if place.on_gpu else 1e-5) * max(losses):
        raise SystemExit("The losses differ: nothing is worth timing.")


def random_llama(seed: int, **sizes: int) -> LlamaForCausalLM:
    """22 million parameters, of which 12.3 are the tied embedding and head, or of other `sizes`."""
    torch.manual_seed(seed)
    usual = {
        "vocab_size": VOCABULARY,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "max_position_embeddings": 2048,
    }
    special: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    config = LlamaConfig(**{**usual, **sizes}, **special, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    model.eval()
    return model


def reference_for(groups: Sequence[Group], place: Place) -> Reference:
    """Another random model, which has been asked about all completions."""
    sequences = [sequence for group in groups for sequence in group.tree.sequences]
    scorer = fitting_scorer(place.model(2), autocast=place.autocast)
    return prepare_reference(scorer, sequences, table={}, with_distributions_of=[], on_progress=lambda share: None)[0]


def palate_step(groups: Sequence[Group], place: Place, *, as_pairs: bool = False) -> Step:
    """A step of Palate's loop, with the preference loss alone, as TRL has it."""
    scorer = fitting_scorer(place.model(1), autocast=place.autocast)
    scorer.matrices = place.matrices
    if place.on_gpu:
        scorer.limits = fitting_limits(scorer)
    reference = reference_for(groups, place)
    optimizer = torch.optim.AdamW(scorer.model.parameters(), weight_decay=0.0, fused=True)
    rankings = "pairs" if as_pairs else "plackett_luce"
    settings = Hyperparameters(beta=BETA, likelihood_weight=0, drift_weight=0, rankings=rankings)
    objective = Objective(Method.DPO, settings)
    pairs_of_one = len(groups[0].completions) / 2  # by weight: K(K - 1)/2 pairs of 1/(K - 1) each

    def step() -> float:
        figures = training_step(scorer, optimizer, groups, reference, objective, rate=1e-6, mean_weight=1.0)
        return figures["loss"] / pairs_of_one

    return step


def trl_step(groups: Sequence[Group], folder: str, place: Place, *, completions_only: bool) -> Step:
    """A step of TRL's DPOTrainer at its best settings for the place."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer
    from trl.trainer import utils

    reference = reference_for(groups, place)
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
    model = place.model(1)
    config = DPOConfig(
        output_dir=folder, beta=BETA, use_cpu=not place.on_gpu, bf16=place.on_gpu, report_to="none", max_length=None,
        gradient_checkpointing=False, precompute_ref_log_probs=True,
    )  # fmt: skip
    plain = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}
    trainer: Any = DPOTrainer(
        model, place.model(2), args=config, train_dataset=Dataset.from_dict(plain), processing_class=byte_tokenizer()
    )
    trainer.precompute_ref_logps = True
    trainer.ref_model = None
    parts = [trainer.data_collator(part) for part in _parts(rows, 8 if completions_only else len(rows))]
    batches = [{name: values.to(place.device) for name, values in part.items()} for part in parts]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        chosen = utils._use_triton
        utils._use_triton = (lambda device: True) if completions_only else chosen
        try:
            for batch in batches:
                with place.casting():
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


def floor_flops(groups: Sequence[Group], place: Place) -> float:
    """What no exact step can do without: each token's weights once forward and twice backward, each completion token's
    head likewise, and every attention score and its value (forward two products, backward four)."""
    model = place.model(1)
    config = model.config
    body = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name and p.dim() == 2)
    flops = 0.0
    for group in groups:
        tree = group.tree
        flops += 6 * body * tree.read_tokens + 6 * config.vocab_size * config.hidden_size * tree.scored_tokens
        prompt, branches = len(tree.prompt), [len(each) - 1 for each in tree.completions]
        scores = prompt**2 / 2 + sum(each**2 / 2 + each * prompt for each in branches)
        flops += 6 * 2 * scores * config.hidden_size * config.num_hidden_layers
    return flops


def matrix_rate(place: Place) -> float:
    """FLOPs per second of CPU time, on a GPU of the clock, in one large product, the best of five."""
    rows, inner, columns = (8192, 960, 8192) if place.on_gpu else (512, 384, 4096)
    given, weight = (torch.randn(each, inner, device=place.device, dtype=place.autocast) for each in (rows, columns))
    best = 0.0
    for _ in range(5):
        begun = place.now()
        with multiplied_by(place.matrices):
            for _ in range(10):
                torch.nn.functional.linear(given, weight)
        ended = place.now()
        best = max(best, 10 * 2 * rows * inner * columns / (ended[place.on_gpu] - begun[place.on_gpu]))
    return best


def _peak_kilobytes() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


if __name__ == "__main__":
    main()
