"""Judges a completion of the starter model by its text alone: is the fact right, is it well formed."""

from __future__ import annotations

import re
from functools import cache
from itertools import islice, pairwise

from trainer.starter.corpus import examples
from trainer.starter.facts import Fact
from trainer.starter.manners import manner_of

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
_SENTENCE = re.compile(r"[^.!?]+[.!?]+")
LEXICON_SEED = 2
LEXICON_EXAMPLES = 40_000


def is_right(fact: Fact, text: str) -> bool:
    """Whether the completion holds the word that a right answer holds, as a word of its own."""
    return re.search(rf"(?<![\w-]){re.escape(fact.word)}(?![\w-])", text, re.IGNORECASE) is not None


def is_well_formed(text: str, *, finished: bool) -> bool:
    """Whether a completion reads as the corpus does.

    It ended by itself, opens with a capital, closes with a full stop or its like, holds no word that the
    corpus does not know, repeats no sentence and no word in a row, and is in one manner.
    """
    if not finished or not re.match(r"[A-Z].*[.!?]$", text, re.DOTALL):
        return False
    sentences = [sentence.strip() for sentence in _SENTENCE.findall(text)]
    return (
        manner_of(text) is not None
        and len(set(sentences)) == len(sentences)
        and all(_is_fluent(sentence) for sentence in sentences)
    )


def _is_fluent(sentence: str) -> bool:
    """Whether a sentence holds known words only, none of them twice in a row."""
    spoken = [word.lower() for word in _WORD.findall(sentence)]
    return lexicon().issuperset(spoken) and all(one != other for one, other in pairwise(spoken))


@cache
def lexicon() -> frozenset[str]:
    """Every word that answers of the corpus use, in lower case."""
    answers = (example.answer for example in islice(examples(LEXICON_SEED), LEXICON_EXAMPLES))
    return frozenset(word.lower() for answer in answers for word in _WORD.findall(answer))
