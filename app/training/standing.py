"""Where a run stands, in a few large figures, each with a sentence that says what it means."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.training.models import Run, RunState
from app.training.warning_signs import KL_NOTED
from app.wording import gettext as _
from app.wording import ngettext
from trainer.contract.run import MetricsRow, Stage

KL_SLIGHT = 0.02
"""Nats per token below which hardly anything that it writes differs."""

MOMENT_SECONDS = 10
"""What is too short to be told in numbers."""


@dataclass(frozen=True)
class Standing:
    """One figure."""

    title: str
    figure: str
    meaning: str


def standings(run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow | None) -> list[Standing]:
    """What is known of a run that has begun, the most asked for first."""
    if latest is None:
        return []
    found = [_time(run, latest), _steps(run, metrics), _speed(run, metrics, latest)]
    return [each for each in [*found, _accuracy(metrics), _distance(metrics)] if each is not None]


def about(seconds: float) -> str:
    """A length of time as one says it, no more exactly than an estimate can be."""
    if seconds < MOMENT_SECONDS:
        return _("a few seconds")
    if seconds < 90:
        return _("%(count)s seconds", count=round(seconds / 5) * 5)
    if seconds < 90 * 60:
        return ngettext("%(num)s minute", "%(num)s minutes", round(seconds / 60))
    hours = seconds / 3600
    return _("%(count)s hours", count=f"{hours:.1f}" if hours < 10 else f"{hours:.0f}")


def _time(run: Run, latest: MetricsRow) -> Standing:
    title = _("Time left")
    if run.state.is_over:
        return Standing(
            _("Time taken"), _taken(run.started_at, run.finished_at), _("From start to end, pauses included.")
        )
    if run.is_paused:
        return Standing(title, "–", _("It is paused, and counts on once it is continued."))
    if latest.seconds_left is None:
        return Standing(title, "–", _("It can be told once some steps have been taken."))
    told = about(latest.seconds_left)
    if latest.seconds_left >= MOMENT_SECONDS:
        told = _("about %(time)s", time=told)
    return Standing(title, told, _("Until its result is measured."))


def _taken(began: datetime | None, ended: datetime | None) -> str:
    return about((ended - began).total_seconds()) if began and ended else "–"


def _steps(run: Run, metrics: Sequence[MetricsRow]) -> Standing | None:
    trained = [row for row in metrics if row.stage is Stage.TRAINING and row.step]
    if not trained:
        return None
    last = trained[-1]
    epochs = run.hyperparameters.get("epochs")
    meaning = _("Each step learns from a few comparisons.")
    if epochs:
        meaning = _(
            "All comparisons have been gone through %(done)s of %(all)s times.",
            done=f"{min(last.epoch, float(epochs)):.1f}",
            all=f"{float(epochs):g}",
        )
    return Standing(_("Step"), _("%(step)s of %(total)s", step=last.step, total=last.total_steps), meaning)


def _speed(run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow) -> Standing | None:
    told = [row.tokens_per_second for row in metrics if row.tokens_per_second is not None]
    rate = latest.tokens_per_second if latest.tokens_per_second is not None else (told[-1] if told else None)
    if rate is None:
        return None
    meaning = _("Tokens are the pieces of words that a model reads and writes.")
    return Standing(_("Tokens per second"), f"{rate:,.0f}", meaning)


def _accuracy(metrics: Sequence[MetricsRow]) -> Standing | None:
    known = [row for row in metrics if row.held_out_accuracy is not None]
    if not known:
        return None
    before, now = known[0].held_out_accuracy or 0.0, known[-1].held_out_accuracy or 0.0
    title, figure = _("Agrees with people"), f"{100 * now:.0f} %"
    if len(known) == 1:
        return Standing(title, figure, _("Of pairs kept aside, before training."))
    if abs(now - before) < 1e-9:
        return Standing(title, figure, _("Of pairs kept aside, as many as before training."))
    given = {"before": f"{100 * before:.0f} %"}
    if now > before:
        return Standing(title, figure, _("Of pairs kept aside: more than before training (%(before)s).", **given))
    return Standing(title, figure, _("Of pairs kept aside: fewer than before training (%(before)s).", **given))


def _distance(metrics: Sequence[MetricsRow]) -> Standing | None:
    known = [row.sample_kl for row in metrics if row.sample_kl is not None]
    if len(known) < 2:
        return None
    now = known[-1]
    meaning = _("It writes differently by now, as is usual.")
    if now < KL_SLIGHT:
        meaning = _("It writes almost as it did.")
    elif now > KL_NOTED:
        meaning = _("It writes very differently by now, and may lose what it knew.")
    return Standing(_("Distance from the reference"), f"{now:.2f}", meaning)


def stage_of(run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow | None) -> Stage | None:
    """The stage that a run under way is in."""
    if run.state is not RunState.RUNNING:
        return None
    if latest is not None:
        return latest.stage
    return metrics[-1].stage if metrics else None
