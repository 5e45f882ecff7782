"""What a run trains on and is checked with: the snapshot's rankings and demonstrations as tokens, and its phases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from trainer.anchors import mismatched
from trainer.contract.run import Method, RunRequest
from trainer.demonstrations import demonstration_groups
from trainer.errors import NothingToTrainOnError
from trainer.groups import Group, PreferencePair, preference_groups, preference_pairs, sides
from trainer.packing import Tokens
from trainer.phases import Phase, limited
from trainer.preferences import Objective
from trainer.rankings import DROP_REASONS, Reading, ranked_texts
from trainer.rates import usual_rate
from trainer.snapshot import Ranking, Snapshot
from trainer.tuning import Plan

_ANEW = "freeze a new snapshot and start a new run."
JUDGE_MORE = f"Judge more comparisons in which one completion is better, {_ANEW}"
WRITE_SOME = f"Write some, {_ANEW}"
ADVICE = {
    "tie": JUDGE_MORE,
    "all_bad": "Start a new run by KTO or BCO, which learn from bad completions too, or judge comparisons in which one "
    "completion is better and freeze a new snapshot.",
    "same_text": f"Have completions sampled that differ (at a higher temperature, say), judge those, {_ANEW}",
    "empty": f"Have completions sampled that say something, judge those, {_ANEW}",
    "over_long": "Start a new run with a higher `max_tokens`, where that is set, or with a model that reads more.",
    "template": "Start a new run with a model whose chat template takes these prompts (a system message, say).",
    "not_text": f"Judge completions that are one message of the assistant, {_ANEW}",
    "criterion": "Start a new run in which the criteria that people judged by have a weight.",
    "overall": "Start a new run in which the overall verdict has a weight, or criteria that people judged by have one.",
    "disagreement": "Start a new run in which every verdict counts the same (`reliability` `ignore`), or have more "
    "people judge each comparison and freeze a new snapshot.",
    "demonstration": f"Start a new run with a model that reads more, or write shorter ones, {_ANEW}",
}
"""What to do where most of what there is was left out for one reason (see DROP_REASONS)."""


@dataclass
class Material:
    """What is trained on, what is held out, and what was left out by reason; demonstrations as groups of one."""

    train: list[Group] = field(default_factory=list)
    demonstrations: list[Group] = field(default_factory=list)
    held_out: list[PreferencePair] = field(default_factory=list)
    mismatched: list[Tokens | None] = field(default_factory=list)
    """As in `Phase`."""
    dropped: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    """Of what was left out, that of the training rankings alone."""

    @property
    def pairs(self) -> int:
        """Preference pairs to train on."""
        return sum(len(group.pairs) for group in self.train)

    @property
    def preferred(self) -> list[Tokens]:
        """Every completion that is trained on for what people preferred."""
        return [sequence for group in self.train for sequence in group.tree.sequences]

    @property
    def sequences(self) -> list[Tokens]:
        """Every completion that the reference is asked about."""
        written = [sequence for group in self.demonstrations for sequence in group.tree.sequences]
        others = [sequence for sequence in self.mismatched if sequence is not None]
        return [*self.preferred, *written, *others, *sides(self.held_out)]

    @property
    def spoken(self) -> str:
        """How much there is to train on, in words."""
        parts = [f"{self.pairs} pairs"] if self.train else []
        parts += [f"{len(self.demonstrations)} demonstrations"] if self.demonstrations else []
        return " and ".join(parts) or "nothing"

    @property
    def left_out(self) -> str:
        """What was left out, in words."""
        counts = sorted((+self.dropped).items())
        return ", ".join(f"{count} {DROP_REASONS[reason]}" for reason, count in counts) or "nothing"

    def add(self, rankings: list[Ranking], reading: Reading, tokens: Tokenizing) -> list[Group]:
        """Rankings as groups, what was left out being counted."""
        ranked, dropped = ranked_texts(rankings, reading)
        groups, dropped_too = preference_groups(ranked, tokens.tokenizer, max_tokens=tokens.most)
        self.dropped += dropped + dropped_too
        return groups


@dataclass(frozen=True)
class Tokenizing:
    """By what tokenizer, and how many tokens a prompt and a completion may have together."""

    tokenizer: PreTrainedTokenizerBase
    most: int


def material_for(request: RunRequest, snapshot: Snapshot, tokens: Tokenizing) -> Material:
    """What the run's method and settings make of a snapshot. Held-out pairs are those of overall verdicts, always."""
    settings = request.hyperparameters
    material = Material()
    if request.method is not Method.SFT:
        material.train = material.add(snapshot.train, Reading.of(request.method, settings), tokens)
        material.unused = Counter(material.dropped)
    if request.method is Method.SFT or settings.demonstration_epochs > 0:
        found = demonstration_groups(snapshot.demonstrations, tokens.tokenizer, max_tokens=tokens.most)
        material.demonstrations, dropped = found
        material.dropped += dropped
    if request.method is Method.KTO:
        material.mismatched = mismatched(material.train, max_tokens=tokens.most)
    material.held_out = preference_pairs(material.add(snapshot.held_out, Reading(), tokens))
    return material


def require_something(request: RunRequest, snapshot: Snapshot, material: Material) -> None:
    """Raise NothingToTrainOnError where a run of this method would train on nothing."""
    left_out = f"(left out: {material.left_out})"
    if request.method is Method.SFT:
        if not material.demonstrations:
            raise NothingToTrainOnError(
                f"The snapshot's {len(snapshot.demonstrations)} demonstrations on training prompts leave nothing to "
                f"train on {left_out}. {ADVICE['demonstration'] if snapshot.demonstrations else WRITE_SOME}"
            )
    elif not material.train:
        raise NothingToTrainOnError(
            f"The snapshot's {len(snapshot.train)} training rankings make no preference pair {left_out}. "
            f"{advice(material.unused)}"
        )


def advice(unused: Counter[str]) -> str:
    """What to do where training rankings make no pair: by the reason why most of them do not."""
    reasons = sorted(+unused, key=lambda reason: -unused[reason])
    return ADVICE[reasons[0]] if reasons else JUDGE_MORE


def phases_of(request: RunRequest, material: Material, plan: Plan) -> list[Phase]:
    """Demonstrations where they are asked for, then preferences, within the budget's steps."""
    settings = request.hyperparameters
    phases = []
    if material.demonstrations:
        epochs = settings.epochs if request.method is Method.SFT else settings.demonstration_epochs
        rate = settings.learning_rate or usual_rate(Method.SFT, plan)
        phases.append(Phase(material.demonstrations, Objective(Method.SFT, settings), epochs, rate))
    if material.train:
        objective = Objective(request.method, settings)
        rate = settings.learning_rate or usual_rate(request.method, plan)
        phases.append(Phase(material.train, objective, settings.epochs, rate, mismatched=material.mismatched))
    return limited(phases, request.budget.max_steps)
