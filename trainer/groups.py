"""Rankings as training reads them: prompts and completions as tokens, with what people said of them.

A **group** is one comparison: a prompt, its completions, and each judgment's verdict on them. Every two completions
that a verdict sets apart are a preference pair; of a K-way ranking each weighs the verdict's weight / (K - 1), so that
a ranking of four does not count six times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
from trainer.packing import Tokens, Tree
from trainer.rankings import RankedTexts, Verdict, set_apart


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
                doubt=verdict.doubt,
            )
            for verdict in self.verdicts
            for better, worse in set_apart(verdict.ranks, self.completions)
        )


@dataclass(frozen=True)
class Pair:
    """Two completions of a group by number, how many levels more than barely one is better, the pair's weight, and the
    share of people who would have it the other way."""

    chosen: int
    rejected: int
    strength: int
    weight: float
    doubt: float


@dataclass(frozen=True)
class PreferencePair:
    """A preference pair by itself: for this prompt, `chosen` was preferred to `rejected`."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen: Tokens
    rejected: Tokens
    weight: float


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
        if not ranking.pairs:  # "all bad" alone
            kept = [number for number, fit in enumerate(fits) if fit]
            dropped["over_long"] += len(fits) > len(kept)
        if kept:
            _add(groups, ranking.only(kept), prompt, [tokens[number] for number in kept])
    return list(groups.values()), +dropped


def _add(
    groups: dict[object, Group], ranking: RankedTexts, prompt: tuple[int, ...], completions: Sequence[tuple[int, ...]]
) -> None:
    """Put a ranking into the group of its completions, which it may begin."""
    key = (ranking.prompt_id, prompt, ranking.completion_ids, tuple(completions))
    begun = groups.get(key) or Group(*key, verdicts=())
    groups[key] = replace(begun, verdicts=(*begun.verdicts, ranking.verdict))


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
