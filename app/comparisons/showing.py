"""In which order the completions of a comparison are shown: balanced, and nothing that anyone could learn.

People favour what comes first. So the slots of one comparison take turns: of K slots in a row, each
completion is first in one, second in another, and so on. From comparison to comparison the start is drawn
by a hash in blocks, such that of 2K comparisons in a row each start occurs exactly twice: whoever judges a
run of them sees every completion as often in one place as in another, yet cannot foresee it. An import
that always lists the better completion first gives nothing away.
"""

import hashlib
import random
from collections.abc import Sequence

STARTS_PER_BLOCK = 2


def shown_order(completion_ids: Sequence[int], *, comparison_id: int, slot: int) -> list[int]:
    """The completions as slot `slot` (from 1) of the comparison shows them, first to last.

    `completion_ids` are in the comparison's own fixed order. From the K-th slot on the cycle is run backwards,
    so that with three or more it is not always the same one that follows another.
    """
    count = len(completion_ids)
    turn, cycle = (slot - 1) % count, (slot - 1) // count
    first = (_start(comparison_id, count) + turn) % count
    order = [completion_ids[(first + step) % count] for step in range(count)]
    return order if cycle % 2 == 0 else [order[0], *reversed(order[1:])]


def _start(comparison_id: int, count: int) -> int:
    """Which completion the first slot of a comparison shows first, 0 to `count` - 1."""
    block, place = divmod(comparison_id, STARTS_PER_BLOCK * count)
    starts = list(range(count)) * STARTS_PER_BLOCK
    seed = int.from_bytes(hashlib.sha256(f"shown:{count}:{block}".encode()).digest()[:8], "big")
    random.Random(seed).shuffle(starts)  # noqa: S311
    return starts[place]
