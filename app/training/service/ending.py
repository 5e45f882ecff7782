"""How a run ends: its version registered, judged by the gate and deployed in one transaction; or not at all."""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record_deed
from app.deployments.models import VersionKind
from app.deployments.service import deploy_version, register_version
from app.live.announcing import announce
from app.training.gate.checks import Check
from app.training.gate.judging import is_blocked, judge
from app.training.models import Run, RunState
from app.training.reward_models import beats_chance
from app.wording import gettext as _
from trainer.contract.report import Outcome, Report
from trainer.contract.steps import Step, passing


def finish_run(session: Session, *, run_id: int, report: Report, model_path: str, now: datetime) -> None:
    """Take the trainer's report in. A run that is over already is left as it is.

    Success registers the version, asks the gate, and deploys where that was wanted and nothing blocks: all or
    nothing, so that a worker killed in between leaves no half of it. The caller has verified the model's hash.
    """
    run = _locked(session, run_id)
    if run.state.is_over:
        return
    run.report = storable(report.model_dump(mode="json"))
    if report.state is Outcome.SUCCEEDED:
        _succeed(session, run, report, model_path=model_path, now=now)
    else:
        cancelled = report.state is Outcome.CANCELLED
        _end(session, run, RunState.CANCELLED if cancelled else RunState.FAILED, report.message, now=now)


def stop_run(session: Session, *, run_id: int, state: RunState, message: str, now: datetime) -> None:
    """End a run that has no report. A run that is over already is left as it is."""
    run = _locked(session, run_id)
    if not run.state.is_over:
        _end(session, run, state, message, now=now)


def _succeed(session: Session, run: Run, report: Report, *, model_path: str, now: datetime) -> None:
    version = register_version(
        session,
        parent=run.start_version,
        kind=VersionKind.ADAPTER if "base" in report.hashes else VersionKind.FULL,
        path=model_path,
        sha256=report.hashes["model"],
        now=now,
        number=run.version_number,
        note=f"Run {run.id}",
        is_reward_model=run.trains_reward_model,
        beats_chance=beats_chance(report.reward_model),
    )
    passing(Step.REGISTRATION_ENTERING)
    run.model_version = version
    if run.trains_reward_model:
        run.gate = []  # the gate is for what is to serve
        _end(session, run, RunState.SUCCEEDED, _("The reward model is ready."), now=now)
        return
    checks = judge(report)
    run.gate = [check.model_dump(mode="json") for check in checks]
    deploys = run.deploys_when_passed and not (run.cancel_requested or run.pause_requested) and not is_blocked(checks)
    _end(session, run, RunState.SUCCEEDED, _outcome(checks, deploys=deploys), now=now)
    if deploys:
        reason = _("Run %(id)s passed the gate.", id=run.id)
        deploy_version(session, version=version, reason=reason, by_id=run.requested_by_id, now=now)
        passing(Step.REGISTRATION_DEPLOYING)


def _outcome(checks: list[Check], *, deploys: bool) -> str:
    if is_blocked(checks):
        return _("The gate refused it: %(checks)s.", checks=", ".join(check.title for check in checks if check.blocks))
    return _("It passed the gate and was deployed.") if deploys else _("It passed the gate. It has not been deployed.")


def _end(session: Session, run: Run, state: RunState, message: str, *, now: datetime) -> None:
    run.state = state
    run.message = message.replace("\x00", "�")
    run.finished_at = now
    run.pause_requested = False
    if state is RunState.SUCCEEDED:
        run.fraction = 1.0
    session.flush()
    announce(session, "run", run.id)
    announce(session, "line", run.line_id)
    record_deed(session, action=f"run.{state.value}", subject=run, subject_id=run.id, actor_id=None, now=now)


def _locked(session: Session, run_id: int) -> Run:
    return session.scalars(
        select(Run).where(Run.id == run_id).with_for_update().execution_options(populate_existing=True)
    ).one()


def storable(value: Any) -> Any:
    """JSON that PostgreSQL takes: a model whose text has fallen apart may write the one character it refuses."""
    if isinstance(value, str):
        return value.replace("\x00", "�")
    if isinstance(value, list):
        return [storable(item) for item in value]
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    return value
