"""What people said of completions, as training reads it: prompts, their completions as tokens, and rankings of them.

A **group** is one comparison: a prompt, its completions, and each judgment's ranking of them as a **verdict**. Every
two completions that a verdict sets apart are a preference pair; of a K-way ranking each weighs the verdict's weight /
(K - 1), so that a ranking of four does not count six times. Whatever is left out is counted by reason, never cut
silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.packing import Tokens, Tree
from trainer.snapshot import Ranking

DROP_REASONS = {
    "tie": "pairs of completions judged equally good",
    "all_bad": "rankings that only said that all completions are bad",
    "same_text": "pairs of completions with the same text",
    "empty": "pairs with an empty completion or prompt",
    "over_long": "pairs with more tokens than the model reads",
    "template": "pairs whose prompt the model's chat template does not take",
    "not_text": "pairs with a completion that is not one assistant message",
    "criterion": "rankings by one criterion alone, which training does not use yet",
}
"""Why rankings and pairs are left out; the keys of the report's `dropped`."""


@dataclass(frozen=True)
class RankedTexts:
    """A ranking of texts, without what training cannot use: at least two of them are set apart."""

    prompt_id: str
    prompt: tuple[Message, ...]
    completion_ids: tuple[str, ...]
    texts: tuple[str, ...]
    ranks: tuple[int, ...]
    heights: tuple[int, ...]
    """As in `Verdict`."""
    weight: float

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every two different completions that are set apart, by number, the better one first."""
        return list(set_apart(self.ranks, self.texts))

    def only(self, kept: Sequence[int]) -> RankedTexts:
        """The same of some completions alone."""
        return replace(
            self,
            completion_ids=tuple(self.completion_ids[number] for number in kept),
            texts=tuple(self.texts[number] for number in kept),
            ranks=tuple(self.ranks[number] for number in kept),
            heights=tuple(self.heights[number] for number in kept),
        )


@dataclass(frozen=True)
class Verdict:
    """One judgment's ranking of a group's completions: 1 for the best, ties equal.

    `heights` is how far each stands above the worst, in levels of strength beyond barely better; 0 where nobody said.
    """

    ranks: tuple[int, ...]
    heights: tuple[int, ...]
    weight: float


@dataclass(frozen=True)
class Group:
    """A prompt, completions of it as token ids, and what people said of them."""

    prompt_id: str
    prompt: tuple[int, ...]
    completion_ids: tuple[str, ...]
    completions: tuple[tuple[int, ...], ...]
    verdicts: tuple[Verdict, ...]

    @cached_property
    def tree(self) -> Tree:
        """The group as a forward reads it."""
        return Tree(self.prompt, self.completions)

    @property
    def weight(self) -> float:
        """Of all its verdicts together."""
        return sum(verdict.weight for verdict in self.verdicts)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The preference pairs of all verdicts."""
        return tuple(
            Pair(
                chosen=better,
                rejected=worse,
                strength=verdict.heights[better] - verdict.heights[worse],
                weight=verdict.weight / (len(self.completions) - 1),
            )
            for verdict in self.verdicts
            for better, worse in set_apart(verdict.ranks, self.completions)
        )


@dataclass(frozen=True)
class Pair:
    """Two completions of a group by number, how many levels more than barely one is better, and the pair's weight."""

    chosen: int
    rejected: int
    strength: int
    weight: float


@dataclass(frozen=True)
class PreferencePair:
    """A preference pair by itself: for this prompt, `chosen` was preferred to `rejected`."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen: Tokens
    rejected: Tokens
    weight: float


def set_apart(ranks: Sequence[int], completions: Sequence[object]) -> Iterator[tuple[int, int]]:
    """The numbers of every two different completions that a ranking sets apart, the better one first."""
    for first, second in combinations(range(len(ranks)), 2):
        if ranks[first] != ranks[second] and completions[first] != completions[second]:
            yield (first, second) if ranks[first] < ranks[second] else (second, first)


def ranked_texts(rankings: Iterable[Ranking]) -> tuple[list[RankedTexts], Counter[str]]:
    """What training can use of the rankings, in order, and what was left out by reason (see DROP_REASONS)."""
    found: list[RankedTexts] = []
    dropped: Counter[str] = Counter()
    for ranking in rankings:
        if ranking.criterion is not None:
            dropped["criterion"] += 1
        elif ranking.all_bad and len(set(ranking.ranks)) <= 1:
            dropped["all_bad"] += 1
        else:
            found += _usable(ranking, dropped)
    return found, dropped


def _usable(ranking: Ranking, dropped: Counter[str]) -> list[RankedTexts]:
    """The ranking of those completions that are in a pair; none where there is no pair."""
    texts = [_text(completion) for completion in ranking.completions]
    kept: set[int] = set()
    for pair in combinations(range(len(texts)), 2):
        if reason := _why_no_pair(ranking, texts, pair):
            dropped[reason] += 1
        else:
            kept |= set(pair)
    if not kept:
        return []
    whole = RankedTexts(
        prompt_id=ranking.prompt_id,
        prompt=ranking.prompt,
        completion_ids=ranking.completion_ids,
        texts=tuple(text or "" for text in texts),
        ranks=ranking.ranks,
        heights=heights(ranking.ranks, ranking.strengths),
        weight=ranking.weight,
    )
    return [whole.only(sorted(kept))]


def heights(ranks: Sequence[int], strengths: Sequence[int] | None) -> tuple[int, ...]:
    """As in `Verdict`, from the strength of each step, 1 for barely better; with another number of steps all are 0."""
    tiers = sorted(set(ranks))
    steps = [strength - 1 for strength in strengths or ()]
    if len(steps) != len(tiers) - 1:
        return (0,) * len(ranks)
    return tuple(sum(steps[tiers.index(rank) :]) for rank in ranks)


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


def preference_groups(
    ranked: Iterable[RankedTexts], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
) -> tuple[list[Group], Counter[str]]:
    """The rankings as tokens, those of the same completions in one group; and the pairs left out by reason.

    A completion that is longer than `max_tokens` with its prompt is left out, and with it every pair that it is in.
    """
    groups: dict[object, Group] = {}
    dropped: Counter[str] = Counter()
    prompts: dict[tuple[Message, ...], tuple[int, ...] | None] = {}
    for ranking in ranked:
        if ranking.prompt not in prompts:
            prompts[ranking.prompt] = accepted_prompt(tokenizer, ranking.prompt)
        prompt = prompts[ranking.prompt]
        if not prompt:
            dropped["template" if prompt is None else "empty"] += len(ranking.pairs)
            continue
        tokens = [tuple(completion_token_ids(tokenizer, text)) for text in ranking.texts]
        fits = [len(prompt) + len(completion) <= max_tokens for completion in tokens]
        pairs = [pair for pair in ranking.pairs if fits[pair[0]] and fits[pair[1]]]
        dropped["over_long"] += len(ranking.pairs) - len(pairs)
        kept = sorted({number for pair in pairs for number in pair})
        if kept:
            _add(groups, ranking.only(kept), prompt, [tokens[number] for number in kept])
    return list(groups.values()), +dropped


def _add(
    groups: dict[object, Group], ranking: RankedTexts, prompt: tuple[int, ...], completions: Sequence[tuple[int, ...]]
) -> None:
    """Put a ranking into the group of its completions, which it may begin."""
    key = (ranking.prompt_id, prompt, ranking.completion_ids, tuple(completions))
    begun = groups.get(key) or Group(*key, verdicts=())
    groups[key] = replace(begun, verdicts=(*begun.verdicts, Verdict(ranking.ranks, ranking.heights, ranking.weight)))


def accepted_prompt(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...]) -> tuple[int, ...] | None:
    """A prompt's tokens, or None where the model's chat template refuses it (say, a system message)."""
    try:
        return tuple(prompt_token_ids(tokenizer, messages))
    except TemplateError:
        return None


def preference_pairs(groups: Iterable[Group]) -> list[PreferencePair]:
    """All pairs of the groups, in order."""
    return [
        PreferencePair(
            prompt_id=group.prompt_id,
            chosen_id=group.completion_ids[pair.chosen],
            rejected_id=group.completion_ids[pair.rejected],
            chosen=Tokens(group.prompt, group.completions[pair.chosen]),
            rejected=Tokens(group.prompt, group.completions[pair.rejected]),
            weight=pair.weight,
        )
        for group in groups
        for pair in group.pairs
    ]


def sides(pairs: Sequence[PreferencePair]) -> list[Tokens]:
    """All chosen sequences, then all rejected ones."""
    return [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
