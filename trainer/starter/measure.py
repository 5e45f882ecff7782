"""Works out the figures that the starter model's card states."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel

from trainer.starter import PROMPTS_FILE
from trainer.starter.facts import all_facts, question
from trainer.starter.form import is_right, is_well_formed
from trainer.starter.manners import Manner, manner_of, says_it_does_not_know
from trainer.starter.sampling import Completion, Writer
from trainer.starter.unknown import held_out_prompts

FIGURES_FILE = "figures.json"
Progress = Callable[[str, float], None]
"""Called with what is being measured and the share of it that is done."""


class Figures(BaseModel):
    """What the starter model does, as shares from 0 to 1; `wanted` says what it is held to."""

    model_config = ConfigDict(frozen=True)

    facts: int
    facts_right_greedy: float
    facts_right_sampled: float
    samples: int
    manners: dict[Manner, float]
    well_formed: float
    unknown_prompts: int
    unknown_admitted_greedy: float
    unknown_admitted_sampled: float
    parameters: int
    seed: int

    def rows(self) -> list[tuple[str, float, str, bool]]:
        """Each figure in words, with its value, what is wanted of it, and whether it is met."""
        facts = [("greedily", self.facts_right_greedy), ("sampled", self.facts_right_sampled)]
        unknown = [("greedily", self.unknown_admitted_greedy), ("sampled", self.unknown_admitted_sampled)]
        return [
            *((f"{self.facts} simple facts right, {how}", share, ">= 95 %", share >= 0.95) for how, share in facts),
            *(
                (f"{manner} among {self.samples} samples", share, "15 to 35 %", 0.15 <= share <= 0.35)
                for manner, share in self.manners.items()
            ),
            (f"well formed among {self.samples} samples", self.well_formed, ">= 98 %", self.well_formed >= 0.98),
            *(
                (f'"I do not know" on {self.unknown_prompts} prompts beyond it, {how}', share, ">= 90 %", share >= 0.9)
                for how, share in unknown
            ),
        ]

    def all_met(self) -> bool:
        """Whether every figure is as wanted."""
        return all(met for *_, met in self.rows())


def measure(
    folder: Path,
    *,
    facts: int = 200,
    samples: int = 1000,
    unknown_prompts: int = 200,
    seed: int = 3,
    on_progress: Progress = lambda _what, _share: None,
) -> Figures:
    """Measure a model folder: facts and unknown prompts greedily and sampled, form and manners on samples.

    The samples are of the starter campaign's prompts, each as often as the others. Sampling is at
    temperature 0.9 and top-p 0.95; the same seed gives the same figures.
    """
    writer, rng = Writer.load(folder), random.Random(seed)  # noqa: S311  chance, not secrecy

    def done(what: str, total: int) -> Callable[[int], None]:
        return lambda count: on_progress(what, count / total)

    asked = rng.sample(all_facts(), min(facts, len(all_facts())))
    questions = [question(fact, rng) for fact in asked]
    unknown = held_out_prompts(rng, unknown_prompts)
    drawn = [prompt for _ in range(-(-samples // len(starter_texts()))) for prompt in starter_texts()][:samples]

    def right(completions: list[Completion]) -> float:
        return _share([is_right(fact, one.text) for fact, one in zip(asked, completions, strict=True)])

    written = writer.sampled(drawn, seed=seed, on_done=done("samples", len(drawn)))
    return Figures(
        facts=len(asked),
        facts_right_greedy=right(writer.greedy(questions, done("facts, greedy", len(asked)))),
        facts_right_sampled=right(writer.sampled(questions, seed=seed, on_done=done("facts, sampled", len(asked)))),
        samples=len(drawn),
        manners=manner_shares([one.text for one in written]),
        well_formed=_share([is_well_formed(one.text, finished=one.finished) for one in written]),
        unknown_prompts=len(unknown),
        unknown_admitted_greedy=_admitted(writer.greedy(unknown, done("unknown, greedy", len(unknown)))),
        unknown_admitted_sampled=_admitted(
            writer.sampled(unknown, seed=seed, on_done=done("unknown, sampled", len(unknown)))
        ),
        parameters=parameter_count(writer.model),
        seed=seed,
    )


def manner_shares(texts: list[str]) -> dict[Manner, float]:
    """The share of texts in each manner; texts in none count in the whole only."""
    counts = Counter(manner_of(text) for text in texts)
    return {manner: counts[manner] / len(texts) for manner in Manner}


def starter_texts() -> list[str]:
    """The starter campaign's prompts."""
    return [json.loads(line)["prompt"] for line in PROMPTS_FILE.read_text(encoding="utf-8").splitlines()]


def parameter_count(model: PreTrainedModel) -> int:
    """How many numbers the model holds; tied weights count once."""
    return sum(weight.numel() for weight in model.parameters())


def _admitted(completions: list[Completion]) -> float:
    return _share([says_it_does_not_know(one.text) for one in completions])


def _share(outcomes: list[bool]) -> float:
    return sum(outcomes) / len(outcomes)
