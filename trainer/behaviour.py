"""What a version's samples look like, whether or not anyone asked for it: form, repetition, refusals, length."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainer.contract.report import Behaviour, Sample
from trainer.contract.run import ProbePrompt

_NGRAM = 3
_STUTTER = re.compile(r"\b(\w+)(?:\W+\1\b){3,}", re.IGNORECASE)
"""The same word four times in a row."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")
"""Control characters, and the one that stands for broken bytes."""
_RUNAWAY = re.compile(r"[A-Za-z]{40,}")
_REFUSAL = re.compile(
    r"\b(?:"
    r"i\s+(?:do\s+not|don[’']t)\s+know"
    r"|i(?:\s+am|[’']m)\s+(?:sorry|unable|not\s+(?:able|sure|allowed))"
    r"|i\s+(?:cannot|can[’']t|can\s+not|won[’']t|will\s+not)\b"
    r"|as\s+an\s+ai\b"
    r")",
    re.IGNORECASE,
)
_REFUSAL_REACH = 200
"""Characters from the start in which a refusal is looked for; later ones belong to an answer."""


def repetition(text: str) -> float:
    """Share of the text's word 3-grams that occurred before in it, 0 to 1; 0 for fewer than four words."""
    words = text.casefold().split()
    ngrams = [tuple(words[start : start + _NGRAM]) for start in range(len(words) - _NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def is_refusal(text: str) -> bool:
    """Whether the text, in English, declines to answer or says that it does not know."""
    return _REFUSAL.search(text[:_REFUSAL_REACH]) is not None


def is_malformed(text: str) -> bool:
    """Whether the text is broken whatever it says.

    Empty, holding control characters or broken bytes, stuttering (a word four times in a row), or running on
    for 40 letters without a break.
    """
    return not text.strip() or any(pattern.search(text) for pattern in (_CONTROL, _STUTTER, _RUNAWAY))


def behaviour_of(samples: Sequence[Sequence[Sample]]) -> Behaviour:
    """Means over all samples, given per prompt."""
    flat = [sample for of_prompt in samples for sample in of_prompt]
    return Behaviour(
        samples=len(flat),
        mean_tokens=_mean([sample.tokens for sample in flat]),
        unfinished_share=_mean([not sample.finished for sample in flat]),
        repetition=_mean([sample.repetition for sample in flat]),
        refusal_share=_mean([sample.refusal for sample in flat]),
        malformed_share=_mean([sample.malformed for sample in flat]),
        drift=_mean([sample.drift for sample in flat]),
        distinct_share=_mean([_distinct_share(of_prompt) for of_prompt in samples if of_prompt]),
    )


def _distinct_share(samples: Sequence[Sample]) -> float:
    return len({" ".join(sample.text.casefold().split()) for sample in samples}) / len(samples)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def probe_passed(probe: ProbePrompt, text: str) -> bool:
    """Whether a greedy completion is what the probe asks for (see ProbePrompt); never for malformed text."""
    found = text.casefold()
    if is_malformed(text) or any(word.casefold() in found for word in probe.forbidden):
        return False
    return not probe.expected or any(word.casefold() in found for word in probe.expected)
