"""Which of several samples to show side by side: distinct ones, those that differ most. Pure and deterministic."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise

from app.generation.normalising import normalised


def most_distinct(texts: Sequence[str], count: int) -> list[int] | None:
    """Indices of `count` samples that differ most from each other, ascending; None where too few are distinct.

    Samples that are alike after normalisation count once (the first of them), blank ones not at all. The pair
    that differs most is taken first, then one by one the sample farthest from those taken. Ties go to the
    samples drawn earlier.
    """
    candidates = distinct(texts)
    if len(candidates) < count:
        return None
    if count < 2:
        return sorted(candidates)[:count]
    shingles = {index: _shingles(text) for index, text in candidates.items()}
    distances = {pair: _distance(shingles[pair[0]], shingles[pair[1]]) for pair in combinations(shingles, 2)}
    chosen = [*max(distances, key=lambda pair: distances[pair])]
    while len(chosen) < count:
        rest = [index for index in shingles if index not in chosen]
        chosen.append(max(rest, key=lambda index: min(distances[_pair(index, each)] for each in chosen)))
    return sorted(chosen)


def distinct(texts: Sequence[str]) -> dict[int, str]:
    """The first of each kind of sample, normalised, by index."""
    seen: set[str] = set()
    kept = {}
    for index, text in enumerate(texts):
        plain = normalised(text)
        if plain and plain not in seen:
            seen.add(plain)
            kept[index] = plain
    return kept


def _shingles(plain: str) -> Counter[tuple[str, ...]]:
    """Words and pairs of neighbouring words, counted: what a text says and in which order."""
    words = plain.split()
    return Counter([(word,) for word in words] + list(pairwise(words)))


def _distance(one: Counter[tuple[str, ...]], other: Counter[tuple[str, ...]]) -> float:
    """How little two texts share, from 0 (the same words in the same order) to 1 (none). Sørensen-Dice."""
    return 1 - 2 * (one & other).total() / (one.total() + other.total())


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
