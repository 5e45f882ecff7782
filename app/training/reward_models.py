"""What a reward model learnt, in words: how well it orders held-out pairs as people did."""

from collections.abc import Sequence
from itertools import groupby
from statistics import fmean

from app.training.evidence import Interval, all_alike, paired_interval
from app.training.gate.checks import LEAST_PROMPTS, percentage
from app.wording import gettext as _
from trainer.contract.report import HeldOutReward, HeldOutRewards, RewardModelResults

_CHANCE = 0.5


def accuracy_interval(pairs: Sequence[HeldOutReward]) -> Interval:
    """The share of held-out pairs ordered as people ordered them, with its interval: the mean over prompts of the
    weighted mean over each prompt's pairs, as judgments of one prompt are not independent of each other."""
    by_prompt = groupby(sorted(pairs, key=lambda pair: pair.prompt_id), key=lambda pair: pair.prompt_id)
    shares = [_weighted(list(each)) for _prompt_id, each in by_prompt]
    if len(shares) >= LEAST_PROMPTS and len(set(shares)) == 1 and shares[0] in {0.0, 1.0}:
        return all_alike(shares[0], len(shares))
    return paired_interval(shares, least=LEAST_PROMPTS)


def beats_chance(results: RewardModelResults | None) -> bool:
    """Whether a reward model orders held-out pairs better than a coin does, as far as they can tell."""
    if results is None or results.after is None or not results.after.pairs:
        return False
    interval = accuracy_interval(results.after.pairs)
    return interval.low is not None and interval.low > _CHANCE


def _weighted(pairs: Sequence[HeldOutReward]) -> float:
    weights = [pair.weight for pair in pairs]
    if not sum(weights):
        return fmean(_ordered(pair) for pair in pairs)
    return fmean((_ordered(pair) for pair in pairs), weights=weights)


def _ordered(pair: HeldOutReward) -> float:
    """1 where the preferred completion has more reward, 0 where the other has, a half where they have the same."""
    if pair.chosen_reward == pair.rejected_reward:
        return 0.5
    return float(pair.chosen_reward > pair.rejected_reward)


def told_accuracy(results: RewardModelResults) -> list[str]:
    """Sentences on held-out pairs before and after, and on what they say; nothing where it was not measured."""
    before, after = results.before, results.after
    if after is None:
        return []
    if after.accuracy is None:
        return [
            _(
                "No judged pair was held out, so nothing says whether it has learnt what people prefer. Judge more "
                "comparisons: about one prompt in five is held out."
            )
        ]
    interval = accuracy_interval(after.pairs)
    return [_share(before, after), _meaning(interval)]


def _share(before: HeldOutRewards | None, after: HeldOutRewards) -> str:
    return _(
        "It gives the preferred completion the higher reward in %(after)s of %(pairs)s held-out pairs of %(prompts)s "
        "prompts; before training it was %(before)s, which is chance.",
        after=percentage(after.accuracy),
        pairs=len(after.pairs),
        prompts=after.prompts,
        before=percentage(before.accuracy if before else None),
    )


def _meaning(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return _("These are too few prompts to say how sure that is.")
    bounds = {"low": percentage(interval.low), "high": percentage(interval.high)}
    if interval.low > _CHANCE:
        return _("By prompts, that is between %(low)s and %(high)s (95 %% interval): better than chance.", **bounds)
    if interval.high < _CHANCE:
        return _("By prompts, that is between %(low)s and %(high)s (95 %% interval): worse than chance.", **bounds)
    return _(
        "By prompts, that is between %(low)s and %(high)s (95 %% interval), so nothing yet says that it is better than "
        "chance. Judge more comparisons.",
        **bounds,
    )
