"""What people said of completions, as far as training can use it: texts still, and no tokenizer asked.

A judgment's ranking becomes a **verdict** on those completions that it says something of. Whatever is left out is
counted by reason, never cut silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from trainer.contract.base import Message
from trainer.contract.run import Hyperparameters, Method
from trainer.snapshot import Ranking

UNPAIRED = {Method.KTO, Method.BCO}
"""Methods that learn from each completion by itself, so that "all bad" says something."""
DROP_REASONS = {
    "tie": "pairs of completions judged equally good",
    "all_bad": "rankings that only said that all completions are bad",
    "same_text": "pairs of completions with the same text",
    "empty": "pairs with an empty completion or prompt",
    "over_long": "pairs with more tokens than the model reads",
    "template": "pairs whose prompt the model's chat template does not take",
    "not_text": "pairs with a completion that is not one assistant message",
    "criterion": "rankings by a criterion that has no weight",
    "overall": "rankings by the overall verdict, which has no weight",
    "disagreement": "rankings that no more people share than contradict",
    "demonstration": "demonstrations that the model cannot read whole, or that are empty",
}
"""Why something is left out; the keys of the report's `dropped`."""


@dataclass(frozen=True)
class Verdict:
    """One judgment's ranking of some completions: 1 for the best, ties equal.

    `heights` is how far each stands above the worst, in levels of strength beyond barely better; 0 where nobody said.
    `doubt` is the share of those asked who would have it the other way, from 0 to below one half; it softens the loss.
    """

    ranks: tuple[int, ...]
    heights: tuple[int, ...]
    weight: float
    doubt: float = 0.0
    all_bad: bool = False

    def only(self, kept: Sequence[int]) -> Verdict:
        """The same of some completions alone."""
        return replace(
            self,
            ranks=tuple(self.ranks[number] for number in kept),
            heights=tuple(self.heights[number] for number in kept),
        )

    def praise(self, completions: Sequence[object]) -> tuple[float, ...]:
        """How good each completion was found, from -1 to 1: the share of the others that it was preferred to, less the
        share preferred to it; -1 of all where all are bad.
        """
        if self.all_bad:
            return (-1.0,) * len(self.ranks)
        praise = [0.0] * len(self.ranks)
        for better, worse in set_apart(self.ranks, completions):
            praise[better] += 1 / (len(self.ranks) - 1)
            praise[worse] -= 1 / (len(self.ranks) - 1)
        return tuple(praise)


@dataclass(frozen=True)
class RankedTexts:
    """A verdict on texts, without what training cannot use."""

    prompt_id: str
    prompt: tuple[Message, ...]
    completion_ids: tuple[str, ...]
    texts: tuple[str, ...]
    verdict: Verdict

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every two different completions that are set apart, by number, the better one first."""
        return list(set_apart(self.verdict.ranks, self.texts))

    def only(self, kept: Sequence[int]) -> RankedTexts:
        """The same of some completions alone."""
        return replace(
            self,
            completion_ids=tuple(self.completion_ids[number] for number in kept),
            texts=tuple(self.texts[number] for number in kept),
            verdict=self.verdict.only(kept),
        )


@dataclass(frozen=True)
class Reading:
    """How rankings are to be read: what the overall verdict and each criterion weigh, whether "all bad" alone is kept,
    and what becomes of disagreement (as in `Hyperparameters.reliability`).
    """

    overall_weight: float = 1.0
    criteria_weights: Mapping[str, float] = field(default_factory=dict)
    keeps_all_bad: bool = False
    reliability: str = "ignore"

    @classmethod
    def of(cls, method: Method, settings: Hyperparameters) -> Reading:
        """What a run's method and settings ask for."""
        return cls(settings.overall_weight, settings.criteria_weights, method in UNPAIRED, settings.reliability)

    def weight_of(self, ranking: Ranking) -> float:
        """What the ranking's kind of verdict weighs; 0 for one that is left out."""
        if ranking.criterion is None:
            return self.overall_weight
        return self.criteria_weights.get(ranking.criterion, 0.0)


def set_apart(ranks: Sequence[int], completions: Sequence[object]) -> Iterator[tuple[int, int]]:
    """The numbers of every two different completions that a ranking sets apart, the better one first."""
    for first, second in combinations(range(len(ranks)), 2):
        if ranks[first] != ranks[second] and completions[first] != completions[second]:
            yield (first, second) if ranks[first] < ranks[second] else (second, first)


def ranked_texts(rankings: Iterable[Ranking], reading: Reading | None = None) -> tuple[list[RankedTexts], Counter[str]]:
    """What training can use of the rankings, in order, and what was left out by reason (see DROP_REASONS).

    Read by the overall verdict alone where no reading is given.
    """
    reading = reading or Reading()
    found: list[RankedTexts] = []
    dropped: Counter[str] = Counter()
    for ranking in rankings:
        verdict = _verdict(ranking, reading)
        only_bad = ranking.all_bad and len(set(ranking.ranks)) <= 1
        if reading.weight_of(ranking) == 0:
            dropped["overall" if ranking.criterion is None else "criterion"] += 1
        elif verdict.weight == 0:
            dropped["disagreement"] += 1
        elif not only_bad:
            found += _usable(ranking, verdict, dropped)
        elif reading.keeps_all_bad:
            found += _found_bad(ranking, verdict, dropped)
        else:
            dropped["all_bad"] += 1
    return found, dropped


def shared_by(ranking: Ranking) -> float:
    """Which share of all who judged these completions, this one included, ordered two of them as here, on average."""
    others = ranking.judgments - 1
    if ranking.agreement is None or others < 1:
        return 1.0
    return (1 + ranking.agreement * others) / ranking.judgments


def heights(ranks: Sequence[int], strengths: Sequence[int] | None) -> tuple[int, ...]:
    """As in `Verdict`, from the strength of each step, 1 for barely better; with another number of steps all are 0."""
    tiers = sorted(set(ranks))
    steps = [strength - 1 for strength in strengths or ()]
    if len(steps) != len(tiers) - 1:
        return (0,) * len(ranks)
    return tuple(sum(steps[tiers.index(rank) :]) for rank in ranks)


def _verdict(ranking: Ranking, reading: Reading) -> Verdict:
    """The ranking's verdict; of no weight where as many contradict it as share it, and disagreement counts."""
    weight, doubt = reading.weight_of(ranking) * ranking.weight, 0.0
    if reading.reliability != "ignore":
        majority = max(0.0, 2 * shared_by(ranking) - 1)
        weight *= majority if reading.reliability == "weight" else float(majority > 0)
        doubt = (1 - majority) / 2 if reading.reliability == "smoothing" and majority else 0.0
    return Verdict(ranking.ranks, heights(ranking.ranks, ranking.strengths), weight, doubt, ranking.all_bad)


def _usable(ranking: Ranking, verdict: Verdict, dropped: Counter[str]) -> list[RankedTexts]:
    """The ranking of those completions that are in a pair; none where there is no pair."""
    texts = [_text(completion) for completion in ranking.completions]
    kept: set[int] = set()
    for pair in combinations(range(len(texts)), 2):
        if reason := _why_no_pair(ranking, texts, pair):
            dropped[reason] += 1
        else:
            kept |= set(pair)
    return [_ranked(ranking, texts, verdict).only(sorted(kept))] if kept else []


def _found_bad(ranking: Ranking, verdict: Verdict, dropped: Counter[str]) -> list[RankedTexts]:
    """Those completions of which only "all bad" was said that have a text."""
    texts = [_text(completion) for completion in ranking.completions]
    kept = [number for number, text in enumerate(texts) if text is not None and text.strip()]
    dropped["empty"] += len(texts) > len(kept)
    return [_ranked(ranking, texts, verdict).only(kept)] if kept else []


def _ranked(ranking: Ranking, texts: Sequence[str | None], verdict: Verdict) -> RankedTexts:
    given = tuple(text or "" for text in texts)
    return RankedTexts(ranking.prompt_id, ranking.prompt, ranking.completion_ids, given, verdict)


def _text(completion: tuple[Message, ...]) -> str | None:
    if len(completion) == 1 and completion[0].role == "assistant":
        return completion[0].content
    return None


def _why_no_pair(ranking: Ranking, texts: Sequence[str | None], pair: tuple[int, int]) -> str | None:
    """Why two completions of a ranking make no pair; None where they make one."""
    first, second = pair
    if ranking.ranks[first] == ranking.ranks[second]:
        return "tie"
    one, other = texts[first], texts[second]
    if one is None or other is None:
        return "not_text"
    if not one.strip() or not other.strip():
        return "empty"
    return "same_text" if one == other else None
