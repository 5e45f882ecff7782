"""What a ranking says about pairs of completions, and those pairs as tokens.

Every pair of completions that a ranking sets apart becomes a preference pair. Of a K-way ranking each
weighs the ranking's weight / (K - 1), so that a ranking of four does not count six times. Whatever is
left out is counted by reason, never cut silently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from trainer.chat import completion_token_ids, prompt_token_ids
from trainer.contract.base import Message
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
class PreferencePair:
    """A row of training: for this prompt, `chosen` was preferred to `rejected` (texts)."""

    prompt_id: str
    prompt: tuple[Message, ...]
    chosen_id: str
    rejected_id: str
    chosen: str
    rejected: str
    weight: float


@dataclass(frozen=True)
class Tokens:
    """One prompt and one completion of it as token ids, the completion's end token included."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True)
class TokenizedPair:
    """A preference pair as the model reads it."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen: Tokens
    rejected: Tokens
    weight: float


def preference_pairs(rankings: Iterable[Ranking]) -> tuple[list[PreferencePair], Counter[str]]:
    """All pairs that the rankings set apart, in order, and what was left out by reason (see DROP_REASONS)."""
    pairs: list[PreferencePair] = []
    dropped: Counter[str] = Counter()
    for ranking in rankings:
        if ranking.criterion is not None:
            dropped["criterion"] += 1
        elif ranking.all_bad and len(set(ranking.ranks)) <= 1:
            dropped["all_bad"] += 1
        else:
            for first, second in combinations(range(len(ranking.ranks)), 2):
                found = _pair(ranking, first, second)
                if isinstance(found, str):
                    dropped[found] += 1
                else:
                    pairs.append(found)
    return pairs, dropped


def _pair(ranking: Ranking, first: int, second: int) -> PreferencePair | str:
    """The pair that a ranking makes of two of its completions, or the reason why it makes none."""
    if ranking.ranks[first] == ranking.ranks[second]:
        return "tie"
    best, worst = (first, second) if ranking.ranks[first] < ranking.ranks[second] else (second, first)
    chosen, rejected = _text(ranking.completions[best]), _text(ranking.completions[worst])
    if chosen is None or rejected is None:
        return "not_text"
    if not chosen.strip() or not rejected.strip():
        return "empty"
    if chosen == rejected:
        return "same_text"
    return PreferencePair(
        prompt_id=ranking.prompt_id,
        prompt=ranking.prompt,
        chosen_id=ranking.completion_ids[best],
        rejected_id=ranking.completion_ids[worst],
        chosen=chosen,
        rejected=rejected,
        weight=ranking.weight / (len(ranking.ranks) - 1),
    )


def _text(completion: tuple[Message, ...]) -> str | None:
    if len(completion) == 1 and completion[0].role == "assistant":
        return completion[0].content
    return None


def tokenized_pairs(
    pairs: Iterable[PreferencePair], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int
) -> tuple[list[TokenizedPair], Counter[str]]:
    """The pairs as tokens, without those of which a side is longer than `max_tokens` (prompt and completion)."""
    kept: list[TokenizedPair] = []
    dropped: Counter[str] = Counter()
    prompts: dict[tuple[Message, ...], tuple[int, ...] | None] = {}
    for pair in pairs:
        if pair.prompt not in prompts:
            prompts[pair.prompt] = accepted_prompt(tokenizer, pair.prompt)
        prompt = prompts[pair.prompt]
        if prompt is None:
            dropped["template"] += 1
            continue
        chosen = Tokens(prompt, tuple(completion_token_ids(tokenizer, pair.chosen)))
        rejected = Tokens(prompt, tuple(completion_token_ids(tokenizer, pair.rejected)))
        if not prompt:
            dropped["empty"] += 1
        elif max(len(chosen), len(rejected)) > max_tokens:
            dropped["over_long"] += 1
        else:
            kept.append(TokenizedPair(pair.prompt_id, pair.chosen_id, pair.rejected_id, chosen, rejected, pair.weight))
    return kept, dropped


def accepted_prompt(tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...]) -> tuple[int, ...] | None:
    """A prompt's tokens, or None where the model's chat template refuses it (say, a system message)."""
    try:
        return tuple(prompt_token_ids(tokenizer, messages))
    except TemplateError:
        return None


def sides(pairs: Sequence[TokenizedPair]) -> list[Tokens]:
    """All chosen sequences, then all rejected ones."""
    return [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
