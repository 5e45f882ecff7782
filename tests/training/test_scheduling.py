"""Lines that train by themselves."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role
from app.campaigns.models import Campaign
from app.deployments.models import ModelLine
from app.errors import Invalid
from app.training.models import LineSchedule, Run, RunState
from app.training.service.scheduling import set_schedule, start_due_runs
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.training import judge_pairs


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session)


@pytest.fixture
def line(campaign: Campaign) -> ModelLine:
    assert campaign.line is not None
    return campaign.line


def over(session: Session, run: Run, state: RunState = RunState.FAILED) -> None:
    run.state, run.finished_at = state, NOW
    session.flush()


def test_a_run_starts_after_so_many_judgments_and_again_after_as_many_more(
    session: Session, campaign: Campaign, line: ModelLine
) -> None:
    set_schedule(session, line=line, every=30, by_id=None, now=NOW)
    judge_pairs(session, campaign, train=20, held_out=5)
    assert start_due_runs(session, now=NOW) == [], "25 of 30"
    judge_pairs(session, make_campaign(session, line=line), train=4, held_out=1)
    (run,) = start_due_runs(session, now=NOW)
    assert run.requested_by_id is None
    assert start_due_runs(session, now=NOW) == [], "one is under way"
    over(session, run)
    assert start_due_runs(session, now=NOW) == [], "a run that failed is not tried again with the same judgments"


def test_a_line_without_a_schedule_waits_for_somebody(session: Session, campaign: Campaign, line: ModelLine) -> None:
    judge_pairs(session, campaign, train=40, held_out=5)
    assert start_due_runs(session, now=NOW) == []
    set_schedule(session, line=line, every=20, by_id=None, now=NOW)
    set_schedule(session, line=line, every=None, by_id=None, now=NOW)
    assert start_due_runs(session, now=NOW) == []


def test_enough_judgments_that_are_all_ties_start_nothing(
    session: Session, campaign: Campaign, line: ModelLine
) -> None:
    set_schedule(session, line=line, every=10, by_id=None, now=NOW)
    judge_pairs(session, campaign, train=5, held_out=20)
    assert start_due_runs(session, now=NOW) == []


@pytest.mark.parametrize("every", [0, 9, -5, 10_000_000])
def test_a_schedule_that_makes_no_sense_is_refused(session: Session, line: ModelLine, every: int) -> None:
    with pytest.raises(Invalid, match="from 10 to 1,000,000"):
        set_schedule(session, line=line, every=every, by_id=None, now=NOW)


def test_a_manager_sets_it_on_the_lines_page(session: Session, line: ModelLine, signed_in: SignedIn) -> None:
    browser: TestClient = signed_in(make_user(session, Role.ADMIN))
    address = f"/models/{line.id}/schedule"
    assert "Off: a run starts" in browser.get(f"/models/{line.id}").text
    refused = browser.post(address, data={"every": "3"})
    assert refused.status_code == 422
    assert "Choose a number from 10" in refused.text
    assert 'value="3"' in refused.text, "what was typed is kept"
    assert browser.post(address, data={"every": "250"}, follow_redirects=False).status_code == 303
    assert "after every 250 new judgments" in browser.get(f"/models/{line.id}").text
    browser.post(address, data={"every": "250", "off": "true"})
    assert session.scalars(select(LineSchedule)).all() == []


def test_the_pages_say_how_far_a_line_is_to_its_next_run(
    session: Session, campaign: Campaign, line: ModelLine, signed_in: SignedIn
) -> None:
    set_schedule(session, line=line, every=40, by_id=None, now=NOW)
    judge_pairs(session, campaign, train=20, held_out=5)
    browser: TestClient = signed_in(make_user(session, Role.ADMIN))
    assert "So far there are 25 since the last one" in browser.get(f"/models/{line.id}").text
    for address in ("/runs", f"/campaigns/{campaign.id}/training"):
        assert "after every 40 new judgments; 25 so far" in browser.get(address).text
