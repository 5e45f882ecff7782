"""Which prompts are nearly the same: word shingles, MinHash bands to find candidates, Jaccard to be sure.

A prompt is taken as its turns without system messages (many prompts share one), in words as a reader hears them.
Broder 1997, "On the resemblance and containment of documents"; bands after Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", section 3.4. Bands are kept in the database: to change a constant of this module is
to work them out anew for all prompts.
"""

import re
import zlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from app.generation.normalising import normalised

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIKE = 0.8
"""Jaccard similarity of shingle sets from which two prompts are near-duplicates. In a prompt of thirty words one may
differ; in a short one none may, so that questions made from one pattern stay apart."""
SHINGLE_WORDS = 3
BANDS = 8
ROWS = 4
"""Eight bands of four rows find 98.5 % of pairs at a similarity of 0.8, and 99.98 % at 0.9."""

Shingles = frozenset[int]

# A word, one character of a script written without spaces, or a sign that carries meaning (2+2, C#).
_WORDS = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]|[^\W_]+|[+\-*/=<>#%$€^&|~@]")


def shingles(messages: Sequence[dict[str, Any]]) -> Shingles:
    """Hashes of every run of three words in the turns of a prompt, system messages left out; never empty."""
    words = [
        word
        for message in messages
        if message["role"] != "system"
        for word in (f"\x1e{message['role']}", *_WORDS.findall(normalised(str(message["content"]))))
    ]
    runs = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return frozenset(zlib.crc32(" ".join(words[at : at + SHINGLE_WORDS]).encode()) for at in runs)


def bands(of: Shingles) -> list[int]:
    """What near-duplicates very probably share at least one of: BANDS numbers of 64 bits, signed."""
    import numpy as np

    mixing, places = _multipliers()
    hashes = np.fromiter(of, dtype=np.uint64, count=len(of))
    mixed = (hashes[:, None] * mixing[0] + mixing[1]) >> np.uint64(32)
    rows = mixed.min(axis=0).reshape(BANDS, ROWS)
    summed = ((rows + np.uint64(1)) * places).sum(axis=1, dtype=np.uint64) + np.arange(BANDS, dtype=np.uint64)
    numbers: list[int] = (summed * np.uint64(0xBF58476D1CE4E5B9)).view(np.int64).tolist()
    return numbers


@cache
def _multipliers() -> "tuple[NDArray[np.uint64], NDArray[np.uint64]]":
    """Odd numbers that stand for as many random orders of all shingles, and what sets the rows of a band apart."""
    import numpy as np

    rng = np.random.Generator(np.random.PCG64(20261123))
    mixing = rng.integers(1, 2**63, size=(2, BANDS * ROWS), dtype=np.uint64) | np.uint64(1)
    return mixing, np.arange(1, ROWS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def jaccard(one: Shingles, other: Shingles) -> float:
    """Share (0 to 1) of the shingles of either that both have."""
    both = len(one & other)
    return both / (len(one) + len(other) - both)
