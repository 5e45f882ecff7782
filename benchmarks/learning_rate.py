"""Which learning rate a run should take by default: the starter model under a crowd that likes friendly completions.

    python -m benchmarks.learning_rate [--rates 1e-4 1.5e-4 2e-4] [--seeds 1 2 3 4 5] [--epochs 8]

For every seed, judgments are drawn anew from the starter model until 150 are not ties, and every rate trains on
the same ones by the default request, on one thread. Each version is then asked again, with random numbers that no
run has seen: 1,000 samples of the campaign's prompts, 200 facts. Prints a table for docs/training.md. About 70
seconds of one core per run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch

from app.training.gate.judging import is_blocked, judge, preference_verdict
from tests.factories.judged import judged_rankings, likes_friendly
from tests.factories.snapshots import write_run, write_snapshot
from trainer.contract.files import read_json
from trainer.contract.report import Report
from trainer.contract.run import MODEL_FOLDER, REPORT_FILE, Budget, Hyperparameters, ProbePrompt
from trainer.run import run
from trainer.starter import MODEL_FOLDER as STARTER
from trainer.starter import PROBES_FILE
from trainer.starter.manners import Manner
from trainer.starter.measure import Figures, measure

DECIDED = 150
"""Verdicts that are not ties, training and held-out ones together."""
FRESH_SEED = 7_000
"""Added to a seed: fresh samples never use the random numbers that the judged ones were drawn with."""
HEADINGS = (
    "rate", "seed", "friendly", "blunt", "facts, greedy / sampled", "well formed", "drift", "margins that rose",
    "gate", "CPU seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One run at one rate, and what its version does beside the start, as shares from 0 to 1."""

    rate: float
    seed: int
    before: Figures
    after: Figures
    drift: float
    """KL to the reference on fresh samples, nats per token."""
    rose: tuple[int, int]
    """Held-out pairs whose margin rose, and all of them."""
    gate: str
    cpu_seconds: float

    def friendly_gain(self) -> float:
        """By how much the share of friendly completions rose."""
        return self.after.manners[Manner.FRIENDLY] - self.before.manners[Manner.FRIENDLY]

    def blunt_ratio(self) -> float:
        """What is left of the share of blunt completions, 1 being all of it."""
        return self.after.manners[Manner.BLUNT] / self.before.manners[Manner.BLUNT]

    def facts_lost(self) -> float:
        """The larger loss of the two ways of asking."""
        before, after = self.before, self.after
        return max(
            before.facts_right_greedy - after.facts_right_greedy,
            before.facts_right_sampled - after.facts_right_sampled,
        )

    def is_as_wanted(self) -> bool:
        """Friendly up by 15 points, blunt halved, at most 5 points of facts lost, and better to the gate."""
        return (
            self.friendly_gain() >= 0.15
            and self.blunt_ratio() <= 0.5
            and self.facts_lost() <= 0.05
            and self.gate == "better"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-4, 1.5e-4, 2e-4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--epochs", type=float, default=Hyperparameters().epochs)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    found: list[Outcome] = []
    _print_row(HEADINGS)
    _print_row(["---"] * len(HEADINGS))
    for outcome in outcomes(options.rates, options.seeds, epochs=options.epochs):
        found.append(outcome)
        _print_row(cells(outcome))
    print()
    for rate in options.rates:
        print(summary(rate, [outcome for outcome in found if outcome.rate == rate]))


def outcomes(rates: Sequence[float], seeds: Sequence[int], *, epochs: float) -> Iterator[Outcome]:
    """Every rate on the judgments of every seed."""
    for seed in seeds:
        train, held_out = judged_rankings(STARTER, likes_friendly, decided=DECIDED, seed=seed)
        before = measure(STARTER, seed=FRESH_SEED + seed)
        with tempfile.TemporaryDirectory() as folder:
            snapshot = write_snapshot(Path(folder) / "snapshot", train=train, held_out=held_out)
            for rate in rates:
                run_folder = Path(folder) / f"run-{rate}"
                probes = [ProbePrompt.model_validate_json(line) for line in PROBES_FILE.read_text().splitlines()]
                write_run(
                    run_folder, snapshot=snapshot, model=STARTER, probes=probes, seed=seed,
                    hyperparameters=Hyperparameters(learning_rate=rate, epochs=epochs), budget=Budget(threads=1),
                )  # fmt: skip
                yield trained(run_folder, rate=rate, seed=seed, before=before)


def trained(folder: Path, *, rate: float, seed: int, before: Figures) -> Outcome:
    """Carry a run out, and measure its version."""
    started = time.process_time()
    with redirect_stdout(sys.stderr):
        run(folder)
    cpu_seconds = time.process_time() - started
    report = read_json(folder / REPORT_FILE, Report)
    checks = judge(report)
    margins = next(check for check in checks if check.name == "held_out_margins")
    assert report.after is not None
    return Outcome(
        rate=rate,
        seed=seed,
        before=before,
        after=measure(folder / MODEL_FOLDER, seed=FRESH_SEED + seed),
        drift=report.after.behaviour.drift,
        rose=(int(margins.figures["pairs_rising"]), int(margins.figures["pairs"])),
        gate="blocked" if is_blocked(checks) else preference_verdict(checks).value,
        cpu_seconds=cpu_seconds,
    )


def cells(outcome: Outcome) -> list[str]:
    """A run as a row of the table."""
    before, after = outcome.before, outcome.after
    return [
        rate_text(outcome.rate),
        str(outcome.seed),
        *(f"{before.manners[m]:.0%} → {after.manners[m]:.0%}" for m in (Manner.FRIENDLY, Manner.BLUNT)),
        f"{after.facts_right_greedy:.1%} / {after.facts_right_sampled:.1%}",
        f"{before.well_formed:.1%} → {after.well_formed:.1%}",
        f"{outcome.drift:.3f}",
        f"{outcome.rose[0]} of {outcome.rose[1]}",
        outcome.gate,
        f"{outcome.cpu_seconds:.0f}",
    ]


def summary(rate: float, found: Sequence[Outcome]) -> str:
    """A rate over all seeds, in a sentence."""
    gains = [one.friendly_gain() for one in found]
    blunt = [one.blunt_ratio() for one in found]
    formed = [one.after.well_formed for one in found]
    return (
        f"{rate_text(rate)}: friendly {mean(gains):+.1%} (least {min(gains):+.1%}), blunt times {mean(blunt):.2f} "
        f"(most {max(blunt):.2f}), facts lost {max(one.facts_lost() for one in found):.1%} at most, "
        f"well formed {mean(formed):.1%} (least {min(formed):.1%}), "
        f"as wanted {sum(one.is_as_wanted() for one in found)} of {len(found)}"
    )


def rate_text(rate: float) -> str:
    """A rate in the power of ten of the default."""
    return f"{rate * 1e4:g}e-4"


def _print_row(row: Sequence[str]) -> None:
    print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
