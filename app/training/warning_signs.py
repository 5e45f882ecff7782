"""Signs that a training goes wrong, told from its metrics, in words for those who are no engineers.

Each is looked for at every evaluation. Thresholds stand here alone, with what they rest on. They are wide where a
figure comes of the dozen samples that are drawn while training: what is warned of here is looked into again, on many
more samples, by the gate.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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


@dataclass
class History:
    """A training up to an evaluation, as it grows. No sign goes through all of it, so that the next evaluation costs
    the same however many came before.
    """

    looks: list[MetricsRow] = field(default_factory=list)
    """All evaluations, the first of which is of the start."""
    agreeing: list[MetricsRow] = field(default_factory=list)
    """Those that tell of held-out accuracy."""
    best: MetricsRow | None = None
    """The most accurate of these but the last two, the later one of equals."""
    likely: list[MetricsRow] = field(default_factory=list)
    """Evaluations that tell of the log-probability of chosen completions."""
    losses: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})
    """Of the steps, in order: of those that learn demonstrations (True), and of those that learn preferences."""
    on_demonstrations: bool = False
    """Whether the last step learnt demonstrations."""

    @property
    def start(self) -> MetricsRow:
        """What was measured before training."""
        return self.looks[0]

    @property
    def now(self) -> MetricsRow:
        """The evaluation that the history ends with."""
        return self.looks[-1]

    @property
    def last_two(self) -> list[MetricsRow]:
        """The last two evaluations after the start; none where there are not two."""
        return self.looks[-2:] if len(self.looks) > 2 else []

    def take_step(self, row: MetricsRow) -> None:
        """Take in a step, which has a loss."""
        assert row.loss is not None
        self.on_demonstrations = row.margin is None
        self.losses[self.on_demonstrations].append(row.loss)

    def take_look(self, row: MetricsRow) -> None:
        """Take in an evaluation."""
        self.looks.append(row)
        if row.held_out_accuracy is not None:
            self.agreeing.append(row)
            if len(self.agreeing) > 2:
                self.best = max(self.best or self.agreeing[0], self.agreeing[-3], key=_accuracy_and_step)
        if row.held_out_chosen_logp is not None:
            self.likely.append(row)


def _accuracy_and_step(row: MetricsRow) -> tuple[float, int]:
    return row.held_out_accuracy or 0.0, row.step


Figures = dict[str, str]
"""What a sentence is filled in with."""


@dataclass(frozen=True)
class Sign:
    """What is warned of. `found` gives the sentence's figures where it is so, else None. `on_demonstrations` is the
    advice where demonstrations are learnt, if it is another: they know neither judgments nor weights of the loss.
    """

    says: str
    advice: str
    found: Callable[[History], Figures | None]
    on_demonstrations: str = ""


class Warned(BaseModel):
    """A warning as a run keeps it. Where `last_step` is before the newest evaluation, it is no longer so."""

    name: str
    first_step: int
    last_step: int
    figures: Figures
    on_demonstrations: bool = False
    """Whether it learnt demonstrations when it was first so."""

    @property
    def sentence(self) -> str:
        """What is wrong, and what can be done about it."""
        sign = SIGNS[self.name]
        advice = (self.on_demonstrations and sign.on_demonstrations) or sign.advice
        return f"{_(sign.says, **self.figures)} {_(advice)}"


def warnings_of(rows: Sequence[MetricsRow]) -> list[Warned]:
    """The warnings that a run's metrics give rise to, in order of the step at which each was first due.

    Figures are those of the last time that it was so. Rows may be of any stage and are taken in order of their steps.
    """
    steps = deque(row for row in rows if row.loss is not None)
    history = History()
    found: dict[str, Warned] = {}
    for look in _with_samples_carried_on([row for row in rows if is_evaluation(row)]):
        while steps and steps[0].step <= look.step:
            history.take_step(steps.popleft())
        history.take_look(look)
        for name, figures in _found(history):
            new = Warned(
                name=name,
                first_step=look.step,
                last_step=look.step,
                figures=figures,
                on_demonstrations=history.on_demonstrations,
            )
            found[name] = found.get(name, new).model_copy(update={"last_step": look.step, "figures": figures})
    return sorted(found.values(), key=lambda warned: warned.first_step)


def _found(history: History) -> Iterator[tuple[str, Figures]]:
    """The signs that the newest evaluation shows; of the start, with which it is compared, there are none."""
    if len(history.looks) > 1:
        for name, sign in SIGNS.items():
            if (figures := sign.found(history)) is not None:
                yield name, figures


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
    before, last = history.start.sample_tokens, [look.sample_tokens for look in history.last_two]
    if before is None or not last:
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
    before, last = history.start.sample_unfinished, [look.sample_unfinished for look in history.last_two]
    if before is None or not last or any(now is None or now - before < UNFINISHED_RISE for now in last):
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
    best, now = history.best, history.now.held_out_accuracy
    if best is None or now is None:
        return None
    pairs = history.now.held_out_pairs or history.start.held_out_pairs or 1
    # Ties count half, and sums of fractions are not exact.
    fall = max(ACCURACY_FALL, ACCURACY_FALL_PAIRS / pairs) - 1e-9
    highest, _step = _accuracy_and_step(best)
    if any(highest - (row.held_out_accuracy or 0.0) < fall for row in history.agreeing[-2:]):
        return None
    return {"step": str(best.step), "best": _percentage(highest), "now": _percentage(now)}


def _loses_the_chosen(history: History) -> Figures | None:
    before = history.start.held_out_chosen_logp
    if before is None or len(history.likely) < 3 or history.now is not history.likely[-1]:
        return None
    for row in history.likely[-2:]:
        fell = before - (row.held_out_chosen_logp or 0.0)
        if fell < CHOSEN_FALL * abs(before) or (row.held_out_margin or 0.0) <= (history.start.held_out_margin or 0.0):
            return None
    return {"before": f"{before:.1f}", "now": f"{history.now.held_out_chosen_logp:.1f}"}


def _learns_nothing(history: History) -> Figures | None:
    # Demonstrations may come before preferences: their losses are not the same thing.
    losses = history.losses[history.on_demonstrations]
    if len(losses) < max(LOSS_LEAST_STEPS, LOSS_LEAST_SHARE * history.now.total_steps):
        return None
    first, last = fmean(losses[:LOSS_WINDOW]), fmean(losses[-LOSS_WINDOW:])
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
        N_("If nobody asked for longer ones, see how long the demonstrations are."),
    ),
    "shorter": Sign(
        N_("It writes much less than before: %(now)s tokens on average, at first %(before)s."),
        N_("If nobody asked for shorter ones, see whether the shorter completion was mostly the one preferred."),
        _grows_shorter,
        N_("If nobody asked for shorter ones, see how short the demonstrations are."),
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
        N_("A lower learning rate, or fewer epochs, keeps its variety."),
    ),
    "far": Sign(
        N_("It has moved far from the model that it is compared with: %(now)s nats per token, more than %(bound)s."),
        N_("What it knew may be lost. A lower learning rate, fewer epochs or a higher drift weight holds it back."),
        _moves_far,
        N_("What it knew may be lost. A lower learning rate, or fewer epochs, holds it back."),
    ),
    "by_heart": Sign(
        N_("It has agreed less with people since step %(step)s: %(now)s of the pairs kept aside, then %(best)s."),
        N_("It may be learning its examples by heart. Fewer epochs, or more judgments, help."),
        _agrees_less,
        N_("It may be learning its examples by heart. Fewer epochs, or more demonstrations, help."),
    ),
    "chosen_falls": Sign(
        N_(
            "It tells better from worse, but is ever less likely to write the better one: its log-probability was "
            "%(before)s nats at first and is %(now)s now."
        ),
        N_("A higher likelihood weight, or a lower learning rate, keeps the better ones likely."),
        _loses_the_chosen,
        N_("A lower learning rate, or fewer epochs, keeps the better ones likely."),
    ),
    "no_progress": Sign(
        N_("It is not learning: the loss was %(first)s at first and is %(last)s now."),
        N_("A higher learning rate, or more judgments that agree with one another, may help."),
        _learns_nothing,
        N_("A higher learning rate, or more demonstrations, may help."),
    ),
}
