"""All checks of a report, and what they come to."""

from collections.abc import Iterable, Sequence

from app.training.gate.behaviour import behaviour_checks
from app.training.gate.checks import Check, Verdict
from app.training.gate.preferences import preference_checks
from app.training.gate.rewards import reward_checks
from app.wording import gettext as _
from trainer.contract.report import Outcome, ProbeResult, Report


def judge(report: Report) -> list[Check]:
    """Every check of a succeeded run. Raises ValueError for a report without results."""
    if report.state is not Outcome.SUCCEEDED or report.before is None or report.after is None:
        raise ValueError("only a run that succeeded can be judged")
    before, after = report.before, report.after
    return [
        *preference_checks(before.preferences, after.preferences),
        *behaviour_checks(before.behaviour, after.behaviour, report.samples),
        *reward_checks(report.samples),
        probe_check(report.probes),
    ]


def is_blocked(checks: Iterable[Check]) -> bool:
    """Whether any check keeps the version from serving."""
    return any(check.blocks for check in checks)


def preference_verdict(checks: Iterable[Check]) -> Verdict:
    """Better or worse at what people preferred: worse if either check says so, better if one does and none worse."""
    verdicts = {check.verdict for check in checks if check.name in {"held_out_accuracy", "held_out_margins"}}
    for verdict in (Verdict.WORSE, Verdict.BETTER):
        if verdict in verdicts:
            return verdict
    return Verdict.UNCLEAR


def probe_check(probes: Sequence[ProbeResult]) -> Check:
    """What every version must still be able to do: a probe that passed before and fails now blocks."""
    title = _("Probe prompts")
    if not probes:
        message = _("This line has no probe prompts, so nothing says what must not be lost.")
        return Check(name="probes", title=title, verdict=Verdict.UNCLEAR, warns=True, message=message)
    lost = [probe.name for probe in probes if probe.passed_before and not probe.passed_after]
    gained = [probe.name for probe in probes if probe.passed_after and not probe.passed_before]
    passed_before, passed_after = (
        sum(probe.passed_before for probe in probes),
        sum(probe.passed_after for probe in probes),
    )
    message = _(
        "%(passed_before)s of %(len)s passed before, %(passed_after)s after.",
        passed_before=passed_before,
        len=len(probes),
        passed_after=passed_after,
    )
    if lost:
        message += _(" Passed before and fail now: %(probes)s.", probes=", ".join(lost))
    return Check(
        name="probes",
        title=title,
        verdict=Verdict.WORSE if lost else Verdict.BETTER if gained else Verdict.OK,
        blocks=bool(lost),
        before=float(passed_before),
        after=float(passed_after),
        effective=len(probes),
        figures={"lost": len(lost), "gained": len(gained), "probes": len(probes)},
        message=message,
    )
