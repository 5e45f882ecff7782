"""Signs that a training goes wrong, told from its metrics, in words for those who are no engineers.

Each is looked for at every evaluation. Thresholds stand here alone, with what they rest on. They are wide where a
figure comes of the dozen samples that are drawn while training: what is warned of here is looked into again, on many
more samples, by the gate.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from pydantic import BaseModel

from app.training.gate.behaviour import DRIFT_BOUND, REPETITION_RISE_BOUND, UNFINISHED_RISE_BOUND
from app.wording import gettext as _
from app.wording import mark as N_
from trainer.contract.run import MetricsRow

REPETITION_RISE = REPETITION_RISE_BOUND
"""More word 3-grams that occurred before in a sample. A loop has about 0.5, so of a dozen samples two are in one."""

LENGTH_FACTOR = 1.6
LENGTH_LEAST_TOKENS = 6.0
"""Longer or shorter than before, by this factor and by these tokens, at two evaluations running: the mean of a dozen
varies by a fifth. The gate refuses 2.5; the starter model, taught a friendlier manner, went up to 1.4."""

UNFINISHED_RISE = UNFINISHED_RISE_BOUND
"""More samples than before that run into the limit, at two evaluations running: three of a dozen, which may be chance
once where about half are cut off anyway."""

DISTINCT_LEFT = 0.6
"""What is left of the share of different texts. Of a dozen samples two or three fewer differ by chance; where all
prompts get one completion each, half is left, and where all get the same, a tenth."""

KL_NOTED = DRIFT_BOUND / 2
"""Nats per token. Trainings that did what was asked ended between 0.02 and 0.1; the gate refuses twice this."""

ACCURACY_FALL = 0.05
ACCURACY_FALL_PAIRS = 3
"""Below the best so far, by both, at two evaluations running: of 25 held-out pairs one or two flip by chance."""

CHOSEN_FALL = 0.10
"""Of the log-probability that chosen completions had before. In good trainings it moves by a few hundredths."""

LOSS_LEFT = 0.98
LOSS_WINDOW = 10
LOSS_LEAST_STEPS = 30
LOSS_LEAST_SHARE = 0.25
"""The mean of the last steps over that of the first ones. Asked once the warm-up, a tenth by default, is well over."""

SAMPLE_FIGURES = [name for name in MetricsRow.model_fields if name.startswith("sample_")]


@dataclass(frozen=True)
class History:
    """A training up to an evaluation: what was measured of its start, all evaluations so far, and all steps, which
    have a loss.
    """

    start: MetricsRow
    looks: Sequence[MetricsRow]
    steps: Sequence[MetricsRow]

    @property
    def now(self) -> MetricsRow:
        """The evaluation that the history ends with."""
        return self.looks[-1]


Figures = dict[str, str]
"""What a sentence is filled in with."""


@dataclass(frozen=True)
class Sign:
    """What is warned of. `found` gives the sentence's figures where it is so, else None."""

    says: str
    advice: str
    found: Callable[[History], Figures | None]


class Warned(BaseModel):
    """A warning as a run keeps it. Where `last_step` is before the newest evaluation, it is no longer so."""

    name: str
    first_step: int
    last_step: int
    figures: Figures

    @property
    def sentence(self) -> str:
        """What is wrong, and what can be done about it."""
        sign = SIGNS[self.name]
        return f"{_(sign.says, **self.figures)} {_(sign.advice)}"


def warnings_of(rows: Sequence[MetricsRow]) -> list[Warned]:
    """The warnings that a run's metrics give rise to, in order of the step at which each was first due.

    Figures are those of the first time. Rows may be of any stage and are taken in order of their steps.
    """
    looks = _with_samples_carried_on([row for row in rows if is_evaluation(row)])
    steps = [row for row in rows if row.loss is not None]
    numbers = [row.step for row in steps]
    found: dict[str, Warned] = {}
    for place, look in enumerate(looks[1:], start=2):
        until_now = steps[: bisect_right(numbers, look.step)]
        history = History(start=looks[0], looks=looks[:place], steps=until_now)
        for name, sign in SIGNS.items():
            figures = sign.found(history)
            if figures is None:
                continue
            first = found.get(name) or Warned(name=name, first_step=look.step, last_step=look.step, figures=figures)
            found[name] = first.model_copy(update={"last_step": look.step})
    return sorted(found.values(), key=lambda warned: warned.first_step)


def last_evaluation(rows: Sequence[MetricsRow]) -> int:
    """The step of the newest evaluation; 0 without any."""
    return max((row.step for row in rows if is_evaluation(row)), default=0)


def is_evaluation(row: MetricsRow) -> bool:
    """Whether the row tells what an evaluation found."""
    return row.held_out_accuracy is not None or row.sample_kl is not None


def _with_samples_carried_on(looks: Sequence[MetricsRow]) -> list[MetricsRow]:
    """The evaluations, those at which nothing was drawn with what the samples before them showed."""
    carried: list[MetricsRow] = []
    for look in looks:
        shown = look if look.sample_kl is not None or not carried else carried[-1]
        carried.append(look.model_copy(update={name: getattr(shown, name) for name in SAMPLE_FIGURES}))
    return carried


# --- Each sign


def _repeats(history: History) -> Figures | None:
    before, now = history.start.sample_repetition, history.now.sample_repetition
    if before is None or now is None or now - before < REPETITION_RISE:
        return None
    return {"now": _percentage(now), "before": _percentage(before)}


def _lengths(history: History) -> tuple[float, float] | None:
    """Mean tokens before and now, where the last two evaluations both differ enough, in the same direction."""
    before, last = history.start.sample_tokens, [look.sample_tokens for look in history.looks[1:][-2:]]
    if before is None or len(last) < 2:
        return None
    extents = []
    for tokens in last:
        if tokens is None or abs(tokens - before) < LENGTH_LEAST_TOKENS:
            return None
        extents.append((tokens + 1) / (before + 1))
    if min(extents) < LENGTH_FACTOR and max(extents) > 1 / LENGTH_FACTOR:
        return None
    return before, last[-1] or 0.0


def _grows_longer(history: History) -> Figures | None:
    found = _lengths(history)
    return {"before": f"{found[0]:.0f}", "now": f"{found[1]:.0f}"} if found and found[1] > found[0] else None


def _grows_shorter(history: History) -> Figures | None:
    found = _lengths(history)
    return {"before": f"{found[0]:.0f}", "now": f"{found[1]:.0f}"} if found and found[1] < found[0] else None


def _forgets_to_end(history: History) -> Figures | None:
    before, last = history.start.sample_unfinished, [look.sample_unfinished for look in history.looks[1:][-2:]]
    if before is None or len(last) < 2 or any(now is None or now - before < UNFINISHED_RISE for now in last):
        return None
    return {"now": _percentage(last[-1] or 0.0), "before": _percentage(before)}


def _writes_all_the_same(history: History) -> Figures | None:
    before, now = history.start.sample_distinct, history.now.sample_distinct
    if before is None or now is None or now > DISTINCT_LEFT * before:
        return None
    return {"now": _percentage(now), "before": _percentage(before)}


def _moves_far(history: History) -> Figures | None:
    now = history.now.sample_kl
    return {"now": f"{now:.2f}", "bound": f"{KL_NOTED:g}"} if now is not None and now > KL_NOTED else None


def _agrees_less(history: History) -> Figures | None:
    known = [(row.step, row.held_out_accuracy) for row in history.looks if row.held_out_accuracy is not None]
    if len(known) < 3 or history.now.held_out_accuracy is None:
        return None
    pairs = history.now.held_out_pairs or history.start.held_out_pairs or 1
    # Ties count half, and sums of fractions are not exact.
    fall = max(ACCURACY_FALL, ACCURACY_FALL_PAIRS / pairs) - 1e-9
    step, best = max(known[:-2], key=lambda each: (each[1], each[0]))
    if any(best - accuracy < fall for _step, accuracy in known[-2:]):
        return None
    return {"step": str(step), "best": _percentage(best), "now": _percentage(known[-1][1])}


def _loses_the_chosen(history: History) -> Figures | None:
    before = history.start.held_out_chosen_logp
    known = [row for row in history.looks if row.held_out_chosen_logp is not None]
    if before is None or len(known) < 3 or history.now is not known[-1]:
        return None
    for row in known[-2:]:
        fell = before - (row.held_out_chosen_logp or 0.0)
        if fell < CHOSEN_FALL * abs(before) or (row.held_out_margin or 0.0) <= (history.start.held_out_margin or 0.0):
            return None
    return {"before": f"{before:.1f}", "now": f"{history.now.held_out_chosen_logp:.1f}"}


def _learns_nothing(history: History) -> Figures | None:
    # Demonstrations, whose steps have no margin, may come before preferences: their losses are not the same thing.
    has_margin = history.steps[-1].margin is not None if history.steps else False
    steps = [row for row in history.steps if (row.margin is not None) is has_margin]
    if len(steps) < max(LOSS_LEAST_STEPS, LOSS_LEAST_SHARE * history.now.total_steps):
        return None
    windows = steps[:LOSS_WINDOW], steps[-LOSS_WINDOW:]
    first, last = (fmean(row.loss for row in window if row.loss is not None) for window in windows)
    return {"first": f"{first:.3g}", "last": f"{last:.3g}"} if last > LOSS_LEFT * first else None


def _percentage(share: float) -> str:
    return f"{100 * share:.0f} %"


SLOWER = N_("A lower learning rate or fewer epochs keeps closer to the base.")

SIGNS = {
    "repeats": Sign(
        N_("It is starting to repeat itself: %(now)s of what it writes it has just said, at first %(before)s."),
        SLOWER,
        _repeats,
    ),
    "longer": Sign(
        N_("It writes much more than before: %(now)s tokens on average, at first %(before)s."),
        N_("If nobody asked for longer ones, see whether the longer completion was mostly the one preferred."),
        _grows_longer,
    ),
    "shorter": Sign(
        N_("It writes much less than before: %(now)s tokens on average, at first %(before)s."),
        N_("If nobody asked for shorter ones, see whether the shorter completion was mostly the one preferred."),
        _grows_shorter,
    ),
    "endless": Sign(
        N_("It forgets to end: %(now)s of what it writes is cut off at the limit, at first %(before)s."),
        SLOWER,
        _forgets_to_end,
    ),
    "same": Sign(
        N_("It writes the same again and again: only %(now)s of its texts differ, at first %(before)s."),
        N_("A lower learning rate, or a higher drift weight, keeps its variety."),
        _writes_all_the_same,
    ),
    "far": Sign(
        N_("It has moved far from the model that it is compared with: %(now)s nats per token, more than %(bound)s."),
        N_("What it knew may be lost. A lower learning rate, fewer epochs or a higher drift weight holds it back."),
        _moves_far,
    ),
    "by_heart": Sign(
        N_("It has agreed less with people since step %(step)s: %(now)s of the pairs kept aside, then %(best)s."),
        N_("It may be learning its examples by heart. Fewer epochs, or more judgments, help."),
        _agrees_less,
    ),
    "chosen_falls": Sign(
        N_("It tells better from worse, but is ever less likely to write the better one (%(before)s, now %(now)s)."),
        N_("A higher likelihood weight, or a lower learning rate, keeps the better ones likely."),
        _loses_the_chosen,
    ),
    "no_progress": Sign(
        N_("It is not learning: the loss was %(first)s at first and is %(last)s now."),
        N_("A higher learning rate, or more judgments that agree with one another, may help."),
        _learns_nothing,
    ),
}
