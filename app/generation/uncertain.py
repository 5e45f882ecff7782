"""Which of several samples to show where a reward model helps to choose: those that it finds hardest to tell apart.

Under Bradley and Terry's model a verdict on two completions is least certain, and so says most, where their rewards are
equal: uncertainty sampling (Lewis and Gale 1994, arXiv:cmp-lg/9407020). Data chosen so is no fair sample of what the
model writes, so one prompt in `KEPT_AS_BEFORE` is left out of it, by its hash. Pure and deterministic.
"""

from collections.abc import Sequence

from app.generation.distinct import distinct

KEPT_AS_BEFORE = 4


def is_kept_as_before(prompt_sha256: str) -> bool:
    """Whether a prompt is one of those whose samples are chosen without a reward model, always the same ones."""
    return int(prompt_sha256[:8], 16) % KEPT_AS_BEFORE == 0


def most_uncertain(texts: Sequence[str], rewards: Sequence[float | None], count: int) -> list[int] | None:
    """Indices of the `count` distinct samples whose rewards lie closest together, ascending.

    Closest: the largest difference between any two of them is the smallest that there is; of equals, those of the lower
    rewards. Samples without a reward are not chosen; None where too few are left.
    """
    known = [(reward, index) for index in distinct(texts) if (reward := rewards[index]) is not None]
    if len(known) < count:
        return None
    known.sort()
    begin = min(range(len(known) - count + 1), key=lambda at: known[at + count - 1][0] - known[at][0])
    return sorted(index for _reward, index in known[begin : begin + count])
