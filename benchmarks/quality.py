"""Whether Palate's trainer learns what TRL's does, on the same preferences, and how long each takes.

    python -m benchmarks.quality curves            losses of 50 steps on the same batches, side by side
    python -m benchmarks.quality starter           held-out accuracy on the starter model, five seeds of judgments
    python -m benchmarks.quality real <folder>     the same on people's real preferences and two small real models,
                                                   or of some of these sources: --sources hh qa oasst

float32, one thread. Both sides get the same token ids, the same log-probabilities of the reference (known beforehand),
AdamW, batches of 8, a warm-up over a tenth of the steps and a linear decay. TRL gets a ranking as the pairs that it
makes. Seconds are CPU seconds of training alone, with nothing else measured in between. Intervals are of 95 %, by
drawing held-out prompts anew 2,000 times.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from tests.factories.judged import judged_rankings, likes_friendly
from tests.factories.serving import byte_tokenizer
from tests.factories.snapshots import Row, ranking_row, write_snapshot
from tests.real.converters import Convert, NotConvertible, hh_rlhf, oasst, qa_feedback, rows_of
from trainer.contract.run import Hyperparameters, Method
from trainer.groups import Group, PreferencePair, preference_groups, preference_pairs, sides
from trainer.logps import Scorer, fitting_scorer
from trainer.models import context_tokens, load_model
from trainer.phases import Phase
from trainer.preferences import Objective
from trainer.rankings import ranked_texts
from trainer.reference import Reference, prepare_reference
from trainer.snapshot import read_snapshot
from trainer.starter import MODEL_FOLDER as STARTER
from trainer.step import training_step

PREFERENCE_ALONE = {"likelihood_weight": 0.0, "drift_weight": 0.0}
LEARNING_RATE = 2e-4
"""The highest one, in every arm."""
ARMS = ["palate", "defaults", "trl"]
"""Palate with the preference loss alone and with its defaults, and TRL."""
SOURCES: dict[str, tuple[str, str, Convert]] = {
    "hh": ("hh-rlhf, pairs", "hh_rlhf_harmless_base_test_part1", hh_rlhf),
    "qa": ("QA-feedback, rankings of four and pairs", "qa_feedback_four_way_part1", qa_feedback),
    "oasst": ("OASST, sibling ranks", "oasst_en_100_tree", oasst),
}


@dataclass(frozen=True)
class Task:
    """A model with preferences to train on and others to be asked about, as tokens."""

    model: Path
    train: list[Group]
    held_out: list[PreferencePair]
    left_out: int

    def scorer(self) -> Scorer:
        """The model as it is before training."""
        return fitting_scorer(load_model(self.model)[0])

    def reference(self, *, drifts: bool) -> Reference:
        """What the model itself says of every completion."""
        trained_on = [sequence for group in self.train for sequence in group.tree.sequences]
        scorer = self.scorer()
        scorer.model.requires_grad_(False)
        sequences = [*trained_on, *sides(self.held_out)]
        drifting = trained_on if drifts else []
        return prepare_reference(
            scorer, sequences, table={}, with_distributions_of=drifting, on_progress=lambda share: None
        )[0]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["curves", "starter", "real"])
    parser.add_argument("folder", type=Path, nargs="?", help="holds preferences/ and models/tinystories-260k/")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    warnings.filterwarnings("ignore")
    if options.what == "curves":
        curves()
    elif options.what == "starter":
        starter(options.seeds)
    elif options.folder is None:
        parser.error("say where the real data is")
    else:
        real(options.folder, options.sources, options.arms, epochs=options.epochs)


def curves(steps: int = 50) -> None:
    """Losses of the same batches in the same order, each side updating a model of its own."""
    task = starter_task(seed=1)
    phase = phase_of(task, epochs=1000, **PREFERENCE_ALONE)
    reference = task.reference(drifts=False)
    ours, theirs = task.scorer(), trl_trainer(task, reference, epochs=1.0, seed=1)
    optimizers = [torch.optim.AdamW(model.parameters(), weight_decay=0.0) for model in (ours.model, theirs.model)]
    largest = 0.0
    print("| step | Palate | TRL | difference |\n|---:|---:|---:|---:|")
    for step in range(1, steps + 1):
        batch = [phase.groups[index] for index in phase.batch(step, seed=1)]
        figures = training_step(
            ours, optimizers[0], batch, reference, phase.objective, rate=2e-4, mean_weight=phase.usual_weight
        )
        rows = [theirs.train_dataset[phase.groups.index(group)] for group in batch]
        optimizers[1].zero_grad(set_to_none=True)
        loss = theirs.compute_loss(theirs.model, theirs.data_collator(rows))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.model.parameters(), 1.0)
        for settings in optimizers[1].param_groups:
            settings["lr"] = 2e-4
        optimizers[1].step()
        difference = abs(figures["loss"] - float(loss.detach()))
        largest = max(largest, difference)
        if step == 1 or step % 10 == 0:
            print(f"| {step} | {figures['loss']:.6f} | {float(loss.detach()):.6f} | {difference:.1e} |")
    print(f"largest difference over {steps} steps: {largest:.1e}")


def starter(seeds: Sequence[int]) -> None:
    """The friendly crowd of the starter campaign, judgments drawn anew for every seed."""
    print("| seed | pairs | held out | before | Palate, preference alone | TRL | Palate, defaults |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    gained: dict[str, list[float]] = {"ours": [], "theirs": [], "defaults": []}
    for seed in seeds:
        task = starter_task(seed=seed)
        before = accuracy(task.scorer(), task.held_out)
        arms = {
            "ours": palate(task, epochs=8, seed=seed, **PREFERENCE_ALONE)[0],
            "theirs": trl(task, epochs=8, seed=seed)[0],
            "defaults": palate(task, epochs=8, seed=seed)[0],
        }
        after = {arm: accuracy(scorer, task.held_out) for arm, scorer in arms.items()}
        for arm, gains in gained.items():
            gains.append(after[arm] - before)
        told = " | ".join(f"{share:.1%}" for share in (before, *after.values()))
        print(f"| {seed} | {len(task.train)} | {len(task.held_out)} | {told} |", flush=True)
    for arm, gains in gained.items():
        print(f"{arm}: gain {mean(gains):+.1%} on average, from {min(gains):+.1%} to {max(gains):+.1%}")


def real(folder: Path, sources: Sequence[str], chosen: Sequence[str], *, epochs: float) -> None:
    """People's preferences, one table: held-out accuracy of log-probabilities, and of their ratios to the start's."""
    columns = ["preferences", "model", "groups", "pairs", "left out", "held out", "before", "arm", "after", "reward"]
    print(f"| {' | '.join([*columns, 'CPU s', 'times'])} |")
    print(f"|{'---|' * 12}")
    for name, file, convert in (SOURCES[source] for source in sources):
        rows = list(ranking_rows(folder / "preferences" / f"{file}.jsonl.gz", convert))
        for model in (STARTER, folder / "models" / "tinystories-260k"):
            task = task_of(model, rows)
            told = (
                f"| {name} | {'starter' if model == STARTER else model.name} | {len(task.train)} "
                f"| {len(preference_pairs(task.train))} | {task.left_out} | {len(task.held_out)} "
                f"| {with_interval(task.held_out, favoured(task.scorer(), task.held_out))} "
            )
            arms: dict[str, Callable[[], tuple[Scorer, float]]] = {
                "palate": lambda task=task: palate(task, epochs=epochs, seed=1, **PREFERENCE_ALONE),
                "defaults": lambda task=task: palate(task, epochs=epochs, seed=1),
                "trl": lambda task=task: trl(task, epochs=epochs, seed=1),
            }
            first, reference = 0.0, task.reference(drifts=False)
            for arm in chosen:
                scorer, seconds = arms[arm]()
                first = first or seconds
                after = with_interval(task.held_out, favoured(scorer, task.held_out))
                reward = with_interval(task.held_out, favoured(scorer, task.held_out, reference))
                print(f"{told}| {arm} | {after} | {reward} | {seconds:.1f} | {seconds / first:.2f} |", flush=True)


def starter_task(*, seed: int) -> Task:
    """About 120 pairs by a crowd that likes friendly completions and dislikes blunt ones, and 30 held out."""
    train, held_out = judged_rankings(STARTER, likes_friendly, decided=150, seed=seed)
    return as_task(STARTER, train, held_out)


def task_of(model: Path, rows: Sequence[Row]) -> Task:
    """A fifth of the prompts held out."""
    prompts = sorted({row["prompt_id"] for row in rows})
    held_out = set(random.Random(3).sample(prompts, len(prompts) // 5))  # noqa: S311  (not a secret)
    train = [row for row in rows if row["prompt_id"] not in held_out]
    return as_task(model, train, [row for row in rows if row["prompt_id"] in held_out])


def as_task(model: Path, train: Sequence[Row], held_out: Sequence[Row]) -> Task:
    """Rankings as tokens, by way of a snapshot."""
    with tempfile.TemporaryDirectory() as folder:
        written = write_snapshot(Path(folder) / "snapshot", train=train, held_out=held_out)
        snapshot = read_snapshot(Path(written.path), rows_sha256=written.rows_sha256)
    loaded, tokenizer = load_model(model)
    parts, left_out = [], 0
    for rankings in (snapshot.train, snapshot.held_out):
        ranked, dropped = ranked_texts(rankings)
        groups, dropped_too = preference_groups(ranked, tokenizer, max_tokens=context_tokens(loaded))
        parts.append(groups)
        left_out += sum((dropped + dropped_too).values())
    return Task(model, parts[0], preference_pairs(parts[1]), left_out)


def ranking_rows(source: Path, convert: Convert) -> Iterator[Row]:
    """A published file as rankings; what it holds that is no comparison is passed over."""
    for number, row in enumerate(rows_of(source)):
        try:
            lines = convert(row)
        except NotConvertible:
            continue
        for line in lines:
            texts = [each if isinstance(each, str) else each["text"] for each in line["completions"]]
            tiers = line["judgments"][0]["ranking"].split(">")
            ranks = {int(place): rank for rank, tier in enumerate(tiers, start=1) for place in tier.split("=")}
            in_order = [ranks[place + 1] for place in range(len(texts))]
            yield ranking_row(line["prompt"], texts, ranks=in_order, prompt_id=f"{source.stem}-{number}")


def phase_of(task: Task, *, epochs: float, **settings: Any) -> Phase:
    """Training as a run with these settings does it."""
    return Phase(task.train, Objective(Method.DPO, Hyperparameters(epochs=epochs, **settings)), epochs, LEARNING_RATE)


def palate(task: Task, *, epochs: float, seed: int, **settings: Any) -> tuple[Scorer, float]:
    """The trained model, and CPU seconds of its steps."""
    phase = phase_of(task, epochs=epochs, **settings)
    scorer = task.scorer()
    reference = task.reference(drifts=phase.objective.drift_weight > 0)
    optimizer = torch.optim.AdamW(scorer.model.parameters(), weight_decay=0.0, fused=True)
    begun = time.process_time()
    for step in range(1, phase.steps + 1):
        batch = [phase.groups[index] for index in phase.batch(step, seed=seed)]
        training_step(
            scorer,
            optimizer,
            batch,
            reference,
            phase.objective,
            rate=phase.rate(step),
            mean_weight=phase.usual_weight,
        )
    return scorer, time.process_time() - begun


def trl(task: Task, *, epochs: float, seed: int) -> tuple[Scorer, float]:
    """The same by TRL's own training loop."""
    trainer = trl_trainer(task, task.reference(drifts=False), epochs=epochs, seed=seed)
    begun = time.process_time()
    trainer.train()
    seconds = time.process_time() - begun
    trainer.model.eval()
    return fitting_scorer(trainer.model), seconds


def trl_trainer(task: Task, reference: Reference, *, epochs: float, seed: int) -> Any:
    """TRL's DPOTrainer at its best settings for a CPU, with the tokens and reference values that Palate uses."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model = load_model(task.model)[0]
    config = DPOConfig(
        output_dir=tempfile.mkdtemp(prefix="palate-quality-"), beta=0.1, learning_rate=LEARNING_RATE,
        num_train_epochs=epochs, per_device_train_batch_size=8,
        warmup_steps=0.1, lr_scheduler_type="linear", weight_decay=0.0, seed=seed,
        use_cpu=True, bf16=False, report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True,
        max_length=None, gradient_checkpointing=False, precompute_ref_log_probs=True, remove_unused_columns=False,
    )  # fmt: skip
    plain = {"prompt": ["x"], "chosen": ["y"], "rejected": ["z"]}
    trainer: Any = DPOTrainer(
        model, load_model(task.model)[0], args=config, train_dataset=Dataset.from_dict(plain),
        processing_class=byte_tokenizer(),
    )  # fmt: skip
    trainer.precompute_ref_logps = True
    trainer.train_dataset = Dataset.from_list(
        [
            {
                "prompt_ids": list(pair.chosen.prompt),
                "chosen_ids": list(pair.chosen.completion),
                "rejected_ids": list(pair.rejected.completion),
                "ref_chosen_logps": float(reference.logps([pair.chosen])),
                "ref_rejected_logps": float(reference.logps([pair.rejected])),
            }
            for pair in preference_pairs(task.train)
        ]
    )
    return trainer


def favoured(scorer: Scorer, pairs: Sequence[PreferencePair], reference: Reference | None = None) -> list[float]:
    """For each held-out pair 1 where log p(chosen) > log p(rejected), one half where they are equal; with a reference
    by the log-ratios to it, the implicit reward."""
    logps = scorer.sequence_logps(sides(pairs))
    if reference is not None:
        known = reference.logps(sides(pairs)).tolist()
        logps = [ours - theirs for ours, theirs in zip(logps, known, strict=True)]
    return [
        (chosen > rejected) + 0.5 * (chosen == rejected)
        for chosen, rejected in zip(logps[: len(pairs)], logps[len(pairs) :], strict=True)
    ]


def accuracy(scorer: Scorer, pairs: Sequence[PreferencePair]) -> float:
    """Held-out preference accuracy."""
    return mean(favoured(scorer, pairs))


def with_interval(pairs: Sequence[PreferencePair], values: Sequence[float]) -> str:
    """The mean over pairs with its interval."""
    by_prompt: dict[str, list[float]] = {}
    for pair, value in zip(pairs, values, strict=True):
        by_prompt.setdefault(pair.prompt_id, []).append(value)
    rng = random.Random(5)  # noqa: S311  (not a secret)
    prompts = list(by_prompt.values())
    drawn = sorted(mean(chain.from_iterable(rng.choices(prompts, k=len(prompts)))) for _ in range(2000))
    found = mean(chain.from_iterable(prompts))
    return f"{found:.1%} ({drawn[50]:.1%} to {drawn[1949]:.1%})"


if __name__ == "__main__":
    main()
