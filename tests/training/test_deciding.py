"""What serves after a run, and on whose word."""

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import AuditEntry
from app.deployments.service import current_version, deployment_history, roll_back
from app.errors import Conflict, Invalid
from app.training.gate.judging import is_blocked
from app.training.models import RunState
from app.training.service.deciding import checks_of, deploy_passed, find_override, override_gate
from app.training.service.ending import finish_run
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.deployments import make_line
from tests.factories.training import finished_run, make_run
from tests.training.reports import preferences, report, sample
from trainer.contract.report import Outcome

REFUSED = report(before=preferences([1.0] * 12), after=preferences([-1.0] * 12))


def test_a_run_that_passes_is_registered_and_deployed_with_its_parent_and_reason(session: Session) -> None:
    line, person = make_line(session, slug="tiny"), make_user(session)
    run = finished_run(session, line, report(), by=person)
    version = run.model_version
    assert version is not None
    assert (run.state, version.name, version.path) == (RunState.SUCCEEDED, "tiny-v1", f"/runs/{run.id}/model")
    assert version.parent_id == run.start_version_id
    assert current_version(session, line_id=line.id) == version
    newest = deployment_history(session, line_id=line.id)[0]
    assert (newest.reason, newest.by) == (f"Run {run.id} passed the gate.", person)


def test_a_report_taken_in_twice_makes_one_version(session: Session) -> None:
    line = make_line(session)
    run = finished_run(session, line, report())
    finish_run(session, run_id=run.id, report=REFUSED, model_path="/elsewhere", now=NOW)
    assert run.model_version is not None
    assert run.model_version.path == f"/runs/{run.id}/model"
    assert len(deployment_history(session, line_id=line.id)) == 2
    assert not is_blocked(checks_of(run))


def test_a_run_told_to_hold_back_or_cancelled_too_late_does_not_serve(session: Session) -> None:
    line = make_line(session)
    for given in ({"deploys_when_passed": False}, {"cancel_requested": True}):
        run = finished_run(session, line, report(), **given)
        assert run.model_version is not None
        assert run.message == "It passed the gate. It has not been deployed."
    assert current_version(session, line_id=line.id).number == 0
    deploy_passed(session, version=run.model_version, by_id=None, now=NOW)
    assert current_version(session, line_id=line.id) == run.model_version


def test_what_the_gate_refused_is_registered_and_kept_from_serving(session: Session) -> None:
    line = make_line(session)
    run = finished_run(session, line, REFUSED)
    assert run.state is RunState.SUCCEEDED
    assert run.message == "The gate refused it: Held-out accuracy, Held-out pairs whose margin rose."
    assert current_version(session, line_id=line.id).number == 0
    assert run.model_version is not None
    with pytest.raises(Conflict, match=f"page of run {run.id}"):
        deploy_passed(session, version=run.model_version, by_id=None, now=NOW)


@pytest.mark.parametrize("reason", ["", "because", "   just  do  ", "\n\n\n\n\n\n\n\n\n\n\n\n"])
def test_an_override_needs_a_reason(session: Session, reason: str) -> None:
    line, person = make_line(session), make_user(session)
    run = finished_run(session, line, REFUSED)
    with pytest.raises(Invalid, match="at least 10 characters"):
        override_gate(session, run=run, by_id=person.id, reason=reason, now=NOW)
    assert find_override(session, run=run) is None
    assert current_version(session, line_id=line.id).number == 0


def test_an_override_deploys_and_stays_on_record(session: Session) -> None:
    line, person = make_line(session), make_user(session)
    run = finished_run(session, line, REFUSED)
    why = "The held-out prompts are\nall about one topic."
    override_gate(session, run=run, by_id=person.id, reason=why, now=NOW)
    assert current_version(session, line_id=line.id) == run.model_version
    override = find_override(session, run=run)
    assert override is not None
    assert (override.by, override.reason) == (person, "The held-out prompts are all about one topic.")
    deed = session.scalars(select(AuditEntry).where(AuditEntry.action == "gate.overridden")).one()
    assert (deed.actor_id, deed.details["checks"]) == (person.id, ["held_out_accuracy", "held_out_margins"])


def test_an_overridden_version_can_be_left_and_come_back_to(session: Session) -> None:
    line, person = make_line(session), make_user(session)
    run = finished_run(session, line, REFUSED)
    override_gate(session, run=run, by_id=person.id, reason="We looked at it closely.", now=NOW)
    roll_back(session, line_id=line.id, by_id=person.id, now=NOW)
    assert run.model_version is not None
    deploy_passed(session, version=run.model_version, by_id=person.id, now=NOW)
    assert current_version(session, line_id=line.id) == run.model_version


def test_there_is_nothing_to_override_on_a_run_that_passed_or_failed(session: Session) -> None:
    line, person = make_line(session), make_user(session)
    passed = finished_run(session, line, report())
    failed = finished_run(session, line, report(state=Outcome.FAILED, message="No pairs."))
    assert (failed.state, failed.message) == (RunState.FAILED, "No pairs.")
    for run in (passed, failed):
        with pytest.raises(Conflict, match="nothing to override"):
            override_gate(session, run=run, by_id=person.id, reason="We looked at it closely.", now=NOW)


def test_a_report_with_text_that_the_database_refuses_is_kept(session: Session) -> None:
    broken = report(samples_after=[sample("a\x00b", malformed=True)] * 12)
    run = finished_run(session, make_line(session), broken)
    session.refresh(run)
    assert run.report is not None
    assert run.report["samples"][0]["after"][0]["text"] == "a�b"


def test_a_run_that_is_over_is_not_ended_again(session: Session) -> None:
    line = make_line(session)
    run = make_run(session, line, state=RunState.CANCELLED, message="Cancelled before it started.", finished_at=NOW)
    finish_run(session, run_id=run.id, report=report(), model_path="/x", now=NOW)
    assert (run.state, run.model_version) == (RunState.CANCELLED, None)
