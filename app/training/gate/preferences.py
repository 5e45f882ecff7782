"""Does the version do what people preferred, on pairs that it was not trained on?"""

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import fmean

from app.training.evidence import SignTest, paired_interval, sign_test
from app.training.gate.checks import LEAST_PROMPTS, Check, Verdict, interval_figures, p_value, percentage, test_figures
from app.wording import gettext as _
from trainer.contract.report import HeldOutPair, Preferences

LEVEL = 0.025
"""Two-sided p below which a sign test counts. Preferences are tested twice (accuracy, margins), so that together
a version as good as the one before is called worse or better by chance at most once in twenty."""

LEAST_ACCURACY_DROP = 0.01
"""A proven drop smaller than a point blocks nothing: with thousands of held-out prompts any drop can be proven."""

MOST_RISING_WHEN_WORSE = 0.45
"""Margins count as worse only where at most this share of those that changed rose, for the same reason."""


def preference_checks(before: Preferences, after: Preferences) -> list[Check]:
    """Held-out accuracy, and the number of held-out pairs whose margin rose: the same pairs, before and after."""
    if not after.pairs:
        return [_nothing_held_out()]
    together = list(zip(before.pairs, after.pairs, strict=True))
    margins = margins_check(together)
    accuracy = accuracy_check(together, before, after)
    if accuracy.verdict is Verdict.UNCLEAR and margins.verdict is Verdict.BETTER:
        # Margins are the sharper of the two; where they have spoken, silence of the other is no cause for doubt.
        accuracy = accuracy.model_copy(update={"warns": False})
    return [accuracy, margins]


def _nothing_held_out() -> Check:
    return Check(
        name="held_out_accuracy",
        title=_("Held-out accuracy"),
        verdict=Verdict.UNCLEAR,
        warns=True,
        message=_(
            "No judged pair was held out, so nothing says whether the version does what people "
            "preferred. Judge more comparisons: about one prompt in five is held out."
        ),
    )


Together = Sequence[tuple[HeldOutPair, HeldOutPair]]
"""Each held-out pair as measured before and after."""


def accuracy_check(together: Together, before: Preferences, after: Preferences) -> Check:
    """Whether more held-out pairs are ordered as people ordered them; exact McNemar test over prompts."""
    changes = _by_prompt(together, lambda old, new: _ordered(new) - _ordered(old))
    test, interval = sign_test(changes), paired_interval(changes, least=LEAST_PROMPTS)
    drop = (before.accuracy or 0.0) - (after.accuracy or 0.0)
    worse = test.p < LEVEL and test.fell > test.rose and drop >= LEAST_ACCURACY_DROP
    verdict = _preference_verdict(test, worse=worse)
    return Check(
        name="held_out_accuracy",
        title=_("Held-out accuracy"),
        verdict=verdict,
        blocks=verdict is Verdict.WORSE,
        warns=verdict is Verdict.UNCLEAR,
        before=before.accuracy,
        after=after.accuracy,
        effective=test.effective,
        figures={**test_figures(test), **interval_figures(interval)},
        message=_(
            "%(percentage)s before, %(percentage2)s after, on %(len)s held-out pairs of %(len2)s "
            "prompts. It rose on %(rose)s and fell on %(fell)s of the prompts (sign test: p "
            "%(p_value)s).",
            percentage=percentage(before.accuracy),
            percentage2=percentage(after.accuracy),
            len=len(together),
            len2=len(changes),
            rose=test.rose,
            fell=test.fell,
            p_value=p_value(test.p),
        ),
    )


def margins_check(together: Together) -> Check:
    """Whether the margin, log p(chosen) − log p(rejected), rose on more held-out pairs than it fell; over prompts."""
    changes = _by_prompt(together, lambda old, new: _margin(new) - _margin(old))
    test = sign_test(changes)
    rising = sum(1 for old, new in together if _margin(new) > _margin(old))
    share = test.rose / test.effective if test.effective else 0.5
    worse = test.p < LEVEL and share <= MOST_RISING_WHEN_WORSE
    verdict = _preference_verdict(test, worse=worse)
    return Check(
        name="held_out_margins",
        title=_("Held-out pairs whose margin rose"),
        verdict=verdict,
        blocks=verdict is Verdict.WORSE,
        warns=verdict is Verdict.UNCLEAR,
        before=fmean(_margin(old) for old, _ in together),
        after=fmean(_margin(new) for _, new in together),
        effective=test.effective,
        figures={**test_figures(test), "pairs_rising": rising, "pairs": len(together)},
        message=_(
            "The preferred completion gained on the other in %(rising)s of %(len)s held-out pairs: "
            "by prompt, %(rose)s rose and %(fell)s fell (sign test: p %(p_value)s).",
            rising=rising,
            len=len(together),
            rose=test.rose,
            fell=test.fell,
            p_value=p_value(test.p),
        ),
    )


def _preference_verdict(test: SignTest, *, worse: bool) -> Verdict:
    if worse:
        return Verdict.WORSE
    if test.p < LEVEL and test.rose > test.fell:
        return Verdict.BETTER
    return Verdict.UNCLEAR


def _by_prompt(together: Together, change: Callable[[HeldOutPair, HeldOutPair], float]) -> list[float]:
    """The weighted mean change of each prompt's pairs: judgments of one prompt are not independent of each other."""
    ordered = sorted(together, key=lambda pair: pair[0].prompt_id)
    changes = []
    for _prompt_id, group in groupby(ordered, key=lambda pair: pair[0].prompt_id):
        pairs = list(group)
        weight = sum(old.weight for old, _new in pairs)
        changes.append(sum(old.weight * change(old, new) for old, new in pairs) / weight)
    return changes


def _margin(pair: HeldOutPair) -> float:
    return pair.chosen_logp - pair.rejected_logp


def _ordered(pair: HeldOutPair) -> float:
    """1 where the version orders the pair as people did, 0 where it does not, a half where it sees no difference."""
    margin = _margin(pair)
    return 0.5 if margin == 0 else float(margin > 0)
