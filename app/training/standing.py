"""Where a run stands, in a few large figures, each with a sentence that says what it means."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.training.models import Run, RunState
from app.training.warning_signs import KL_NOTED
from app.wording import gettext as _
from app.wording import ngettext
from trainer.contract.report import Report
from trainer.contract.run import Method, MetricsRow, Stage

KL_SLIGHT = 0.02
"""Nats per token below which hardly anything that it writes differs."""

MOMENT_SECONDS = 10
"""What is too short to be told in numbers."""

SILENCE = timedelta(minutes=5)
"""After which a run that tells nothing may have lost its worker; the trainer adds a row at every step or batch."""

WAITING_TO_GO_ON = "Waiting to go on"
"""What worker and trainer begin their last message with when the trainer leaves before the end."""


@dataclass(frozen=True)
class Standing:
    """One figure."""

    title: str
    figure: str
    meaning: str


def standings(
    run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow | None, *, report: Report | None, now: datetime
) -> list[Standing]:
    """What is known of a run that has begun, the most asked for first.

    Once there is a report, it tells what the version does: that may have the weights of an earlier step.
    """
    if latest is None:
        return []
    found = [_time(run, latest, now), _steps(run, metrics, latest, report), _speed(run, metrics, latest)]
    found += [_accuracy(metrics, report), _distance(metrics, report)]
    return [each for each in found if each is not None]


def silent_since(run: Run, latest: MetricsRow | None, *, now: datetime) -> datetime | None:
    """Since when nothing has been heard of a run that should be at work; None where there is nothing amiss."""
    if run.state is not RunState.RUNNING or run.is_paused or _waits_to_go_on(run, latest):
        return None
    heard = latest.at if latest else run.started_at
    return heard if heard is not None and now - heard > SILENCE else None


def _waits_to_go_on(run: Run, latest: MetricsRow | None) -> bool:
    said = [run.message, (latest.message if latest else None) or ""]
    return any(message.startswith(WAITING_TO_GO_ON) for message in said)


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


def _time(run: Run, latest: MetricsRow, now: datetime) -> Standing:  # noqa: PLR0911 - one for each thing it may do
    title = _("Time left")
    if run.state.is_over:
        return Standing(
            _("Time taken"), _taken(run.started_at, run.finished_at), _("From start to end, pauses included.")
        )
    if run.is_paused:
        return Standing(title, "–", _("It is paused, and counts on once it is continued."))
    if silent := silent_since(run, latest, now=now):
        heard = about((now - silent).total_seconds())
        return Standing(title, "–", _("Nothing has been heard of it for %(time)s.", time=heard))
    if run.cancel_requested:
        return Standing(title, "–", _("It is being cancelled, and ends after the step that it is at."))
    if _waits_to_go_on(run, latest):
        return Standing(title, "–", _("It is interrupted, and counts on once a worker takes it up again."))
    if latest.stage is Stage.WRITING:
        return Standing(title, _("nearly done"), _("The version is being written."))
    if latest.seconds_left is None:
        return Standing(title, "–", _("It can be told once some steps have been taken."))
    told = about(latest.seconds_left)
    if latest.seconds_left >= MOMENT_SECONDS:
        told = _("about %(time)s", time=told)
    return Standing(title, told, _("Until its result is measured."))


def _taken(began: datetime | None, ended: datetime | None) -> str:
    return about((ended - began).total_seconds()) if began and ended else "–"


def _steps(run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow, report: Report | None) -> Standing | None:
    newest = _newest_step(metrics, latest)
    if newest is None:
        return None
    figure = _("%(step)s of %(total)s", step=newest.step, total=newest.total_steps)
    best = report.best_step if report and run.state is RunState.SUCCEEDED else None
    if best is not None and best != newest.step:
        meaning = _("The version is that of step %(step)s, which agreed best with people.", step=best)
    elif newest.step < newest.total_steps and latest.stage in {Stage.AFTER, Stage.WRITING}:
        meaning = _("Training ended before its last step; the log says why.")
    else:
        meaning = _gone_through(run, newest)
    return Standing(_("Step"), figure, meaning)


def _newest_step(metrics: Sequence[MetricsRow], latest: MetricsRow) -> MetricsRow | None:
    """The step that it is at. Rows come by step, and a run taken up again is behind what it had reached."""
    if latest.stage is Stage.TRAINING and latest.step:
        return latest
    trained = [row for row in metrics if row.stage is Stage.TRAINING and row.step]
    return sorted(trained, key=lambda row: row.at)[-1] if trained else None


def _gone_through(run: Run, row: MetricsRow) -> str:
    """How often it has seen what it learns from at that step. Demonstrations, which may come first, have no margin."""
    settings, is_sft = run.hyperparameters, run.method == Method.SFT
    demonstrates = is_sft or bool(settings.get("demonstration_epochs") and row.margin is None and row.anchor is None)
    epochs = float(settings.get("demonstration_epochs" if demonstrates and not is_sft else "epochs") or 0)
    given = {"done": f"{min(row.epoch, epochs):.1f}", "all": f"{epochs:g}"}
    if is_sft:
        return _("All demonstrations have been gone through %(done)s of %(all)s times.", **given)
    if demonstrates:
        return _(
            "All demonstrations have been gone through %(done)s of %(all)s times; comparisons come after them.", **given
        )
    return _("All comparisons have been gone through %(done)s of %(all)s times.", **given)


def _speed(run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow) -> Standing | None:
    told = [row.tokens_per_second for row in metrics if row.tokens_per_second is not None]
    rate = latest.tokens_per_second if latest.tokens_per_second is not None else (told[-1] if told else None)
    if rate is None:
        return None
    meaning = _("Tokens are the pieces of words that a model reads and writes.")
    return Standing(_("Tokens per second"), f"{rate:,.0f}", meaning)


def _accuracy(metrics: Sequence[MetricsRow], report: Report | None) -> Standing | None:
    title = _("Agrees with people")
    known = [row.held_out_accuracy for row in metrics if row.held_out_accuracy is not None]
    if (measured := _measured_accuracies(report)) is not None:
        known = [accuracy for accuracy in measured if accuracy is not None]
    if not known:
        has_trained = any(row.loss is not None for row in metrics)  # after the start was measured
        meaning = _(
            "Too few prompts have been judged: no pairs were kept aside to measure it by, and some charts are missing. "
            "Have more prompts judged before the next run."
        )
        return Standing(title, "–", meaning) if has_trained else None
    before, now, given = known[0], known[-1], {"before": f"{100 * known[0]:.0f} %"}
    if len(known) == 1:
        meaning = _("Of pairs kept aside (held-out accuracy), before training.")
    elif abs(now - before) < 1e-9:
        meaning = _("Of pairs kept aside (held-out accuracy), as many as before training.")
    elif now > before:
        meaning = _("Of pairs kept aside (held-out accuracy): more than before training (%(before)s).", **given)
    else:
        meaning = _("Of pairs kept aside (held-out accuracy): fewer than before training (%(before)s).", **given)
    return Standing(title, f"{100 * now:.0f} %", meaning)


def _measured_accuracies(report: Report | None) -> tuple[float | None, float | None] | None:
    """Held-out accuracy before and after, None without a pair; nothing where the run did not get to measure both."""
    if report and report.before and report.after:
        return report.before.preferences.accuracy, report.after.preferences.accuracy
    rewards = report.reward_model if report else None
    return (rewards.before.accuracy, rewards.after.accuracy) if rewards and rewards.before and rewards.after else None


def _distance(metrics: Sequence[MetricsRow], report: Report | None) -> Standing | None:
    known = [row.sample_kl for row in metrics if row.sample_kl is not None]
    if report and report.after:
        now = max(0.0, report.after.behaviour.drift)  # an estimate, which may come out below
        rests_on = _("In nats per token, on the fresh samples that the gate looks at.")
    elif len(known) > 1:
        now = max(0.0, known[-1])
        rests_on = _("In nats per token, on the few samples of the last evaluation: a rough guide.")
    else:
        return None
    meaning = _("It writes differently by now, as is usual.")
    if now < KL_SLIGHT:
        meaning = _("It writes almost as it did.")
    elif now > KL_NOTED:
        meaning = _("It writes very differently by now, and may lose what it knew.")
    return Standing(_("Distance from the reference"), f"{now:.2f}", f"{meaning} {rests_on}")


def stage_of(run: Run, metrics: Sequence[MetricsRow], latest: MetricsRow | None) -> Stage | None:
    """The stage that a run under way is in."""
    if run.state is not RunState.RUNNING:
        return None
    if latest is not None:
        return latest.stage
    return metrics[-1].stage if metrics else None
