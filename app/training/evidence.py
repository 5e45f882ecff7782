"""What counts as evidence: exact sign tests, and paired intervals that make no assumption about shape.

Everything is paired by prompt, the unit that varies independently: several judgments of one prompt, and
several samples for it, are one observation together.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from statistics import fmean

RESAMPLES = 2_000
"""Bootstrap resamples: the ends of a 95 % interval then vary by about a twentieth of its width."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class SignTest:
    """How many of the pairs that changed rose and fell, and how surprising that is if neither were likelier.

    `p` is two-sided and exact (McNemar's test where the outcomes are right and wrong); 1 without a change.
    """

    rose: int
    fell: int
    p: float

    @property
    def effective(self) -> int:
        """How many observations speak at all: those that changed."""
        return self.rose + self.fell


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval; `low` and `high` are None with too few observations for one."""

    mean: float
    low: float | None
    high: float | None

    def excludes(self, value: float) -> bool:
        """Whether the interval lies wholly to one side of `value`; False where there is no interval."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def sign_test(differences: Sequence[float]) -> SignTest:
    """The exact two-sided sign test of differences; zeros say nothing and are left out."""
    rose = sum(1 for difference in differences if difference > 0)
    fell = sum(1 for difference in differences if difference < 0)
    return SignTest(rose=rose, fell=fell, p=two_sided_p(rose, fell))


def two_sided_p(rose: int, fell: int) -> float:
    """Probability of a split at least as uneven as this one, were both directions equally likely."""
    tail = binomial_tail(rose + fell, max(rose, fell))
    return min(1.0, 2 * tail)


def binomial_tail(trials: int, at_least: int) -> float:
    """P(X >= at_least) for X counting heads of `trials` fair coins; exact integers until the last division."""
    first = max(0, at_least)
    term = comb(trials, first)
    ways = 0
    for heads in range(first, trials + 1):
        ways += term
        term = term * (trials - heads) // (heads + 1)
    return float(ways / 2**trials)


def paired_interval(differences: Sequence[float], *, least: int) -> Interval:
    """The mean of paired differences (one per prompt) with its percentile bootstrap interval.

    With fewer than `least` differences there is no interval. The same differences give the same interval.
    """
    return bootstrap(differences, fmean, least=least)


def all_alike(share: float, count: int) -> Interval:
    """The exact 95 % interval of a share where all of `count` observations are right (1), or none is (0), in which
    resampling sees no chance at all (Clopper and Pearson 1934)."""
    most_wrong = 1 - ((1 - CONFIDENCE) / 2) ** (1 / count)
    low, high = (1 - most_wrong, 1.0) if share else (0.0, most_wrong)
    return Interval(mean=share, low=low, high=high)


def bootstrap(observations: Sequence[float], statistic: Callable[[Sequence[float]], float], *, least: int) -> Interval:
    """A statistic of observations with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""
    if not observations:
        return Interval(mean=0.0, low=None, high=None)
    if len(observations) < least:
        return Interval(mean=statistic(observations), low=None, high=None)
    rng = random.Random(0)  # noqa: S311  (resampling, not a secret)
    values = sorted(statistic(rng.choices(observations, k=len(observations))) for _ in range(RESAMPLES))
    cut = round(RESAMPLES * (1 - CONFIDENCE) / 2)
    return Interval(mean=statistic(observations), low=values[cut], high=values[-cut - 1])
