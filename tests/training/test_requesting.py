"""When a run may start, and when it is refused with a reason."""

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.accounts.service.sign_ins import Person
from app.campaigns.models import Campaign
from app.errors import Conflict, Invalid
from app.training.models import RunState
from app.training.service.requesting import LEAST_TRAINING_PAIRS, readiness, request_run
from app.training.service.steering import cancel_run
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.deployments import make_version
from tests.factories.training import finished_run, judge_pairs, make_run
from tests.training.reports import report
from trainer.contract.run import Hyperparameters


@pytest.fixture
def campaign(session: Session) -> Campaign:
    """A campaign on a line of its own."""
    return make_campaign(session)


def as_person(user: User) -> Person:
    """Somebody who asks."""
    return Person(id=user.id, name=user.name, email=user.email, role=user.role)


def test_a_run_waits_behind_the_freezing_of_its_snapshot(session: Session, campaign: Campaign) -> None:
    judge_pairs(session, campaign)
    line, person = campaign.line, make_user(session)
    assert line is not None
    run = request_run(
        session, line=line, person=as_person(person), now=NOW, hyperparameters=Hyperparameters(beta=0.3), seed=5
    )
    assert (run.state, run.version_number, run.seed, run.hyperparameters["beta"]) == (RunState.WAITING, 1, 5, 0.3)
    assert run.start_version == run.reference_version == run.base_version
    assert run.requested_by == person
    jobs = session.execute(text("SELECT task_name, lock FROM procrastinate_jobs ORDER BY id")).all()
    lock = f"snapshot:{run.snapshot_id}"
    assert [(job.task_name, job.lock) for job in jobs] == [
        ("datasets:freeze_snapshot", lock),
        ("training:carry_out", lock),
    ]


def test_a_second_run_on_the_line_is_refused_by_name(session: Session, campaign: Campaign) -> None:
    judge_pairs(session, campaign)
    assert campaign.line is not None
    first = request_run(session, line=campaign.line, person=None, now=NOW)
    with pytest.raises(Conflict, match=f"Run {first.id} is under way"):
        request_run(session, line=campaign.line, person=None, now=NOW)
    cancel_run(session, run=first, by_id=None, now=NOW)
    assert request_run(session, line=campaign.line, person=None, now=NOW).id != first.id


def test_without_a_judgment_there_is_nothing_to_train_on(session: Session, campaign: Campaign) -> None:
    assert campaign.line is not None
    with pytest.raises(Invalid, match="Nothing has been judged"):
        request_run(session, line=campaign.line, person=None, now=NOW)


@pytest.mark.parametrize(("train", "said"), [(0, "are 0 training pairs"), (1, "is 1 training pair,"), (9, "are 9 ")])
def test_too_few_training_pairs_are_refused_with_their_count(
    session: Session, campaign: Campaign, train: int, said: str
) -> None:
    judge_pairs(session, campaign, train=train, held_out=20)
    assert campaign.line is not None
    with pytest.raises(Invalid, match=f"{said}.*at least {LEAST_TRAINING_PAIRS}"):
        request_run(session, line=campaign.line, person=None, now=NOW)


def test_a_run_may_start_from_what_serves_with_that_as_its_reference(session: Session, campaign: Campaign) -> None:
    judge_pairs(session, campaign)
    line = campaign.line
    assert line is not None
    trained = finished_run(session, line, report()).model_version
    run = request_run(session, line=line, person=None, now=NOW, start="current")
    assert run.start_version == run.reference_version == trained
    assert run.base_version.number == 0
    assert run.version_number == 2


def test_what_is_new_counts_from_the_last_finished_run(session: Session, campaign: Campaign) -> None:
    line = campaign.line
    assert line is not None
    judge_pairs(session, campaign, train=12, held_out=3)
    before = readiness(session, line=line)
    assert (before.counts.train, before.counts.eval, before.new_judgments, before.obstacle) == (12, 3, 15, None)
    finished_run(session, line, report())
    after = readiness(session, line=line)
    assert after.new_judgments == 0
    assert after.obstacle is None, "training the same again is allowed"


def test_a_waiting_run_is_cancelled_at_once_and_a_running_one_when_the_trainer_listens(
    session: Session, campaign: Campaign
) -> None:
    line = campaign.line
    assert line is not None
    waiting = make_run(session, line)
    cancel_run(session, run=waiting, by_id=None, now=NOW)
    assert (waiting.state, waiting.finished_at) == (RunState.CANCELLED, NOW)
    running = make_run(session, line, state=RunState.RUNNING)
    cancel_run(session, run=running, by_id=None, now=NOW)
    assert (running.state, running.cancel_requested) == (RunState.RUNNING, True)
    with pytest.raises(Conflict, match="over already"):
        cancel_run(session, run=waiting, by_id=None, now=NOW)


def test_a_number_is_not_taken_by_a_run_that_made_nothing(session: Session, campaign: Campaign) -> None:
    line = campaign.line
    assert line is not None
    make_version(session, line)
    run = make_run(session, line)
    assert run.version_number == 2
    cancel_run(session, run=run, by_id=None, now=NOW)
    assert make_run(session, line).version_number == 2
