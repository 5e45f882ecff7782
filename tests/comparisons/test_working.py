"""Hours and counts: what is in them, for oneself and for the manager, and who may see whose."""

import csv
import io
import uuid
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign, CampaignState
from app.campaigns.service.progress import progress_by_person
from app.comparisons.service.judging import Verdict, record_judgment
from app.comparisons.service.rejecting import Grounds, reject_judgment
from app.comparisons.service.working import in_hours, work_in_campaign, work_of_person
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import Desk, make_desk

MINUTE = 60_000


def judge(desk: Desk, *, active_ms: int | None) -> int:
    """Judge what is at the desk."""
    verdict = Verdict(ranking="1>2", active_ms=active_ms)
    held = desk.hold(desk.take())
    recorded = record_judgment(desk.session, assignment=held, verdict=verdict, key=uuid.uuid4(), now=desk.now)
    return recorded.judgment_id


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session, name="=Kind words")
    for _ in range(6):
        make_comparison(session, campaign, redundancy=2)
    return campaign


@pytest.fixture
def desk(session: Session, campaign: Campaign) -> Desk:
    """Three judged in the week of NOW, of which one was set aside and one had no time; one skipped; then one a week
    later, after it had been taken back once.
    """
    desk = make_desk(session, campaign)
    first = judge(desk, active_ms=30 * MINUTE)
    judge(desk, active_ms=45 * MINUTE)
    judge(desk, active_ms=None)
    desk.skip(desk.take())
    reject_judgment(session, judgment_id=first, grounds=Grounds("Skimmed."), by_id=None, now=NOW)
    desk.now += timedelta(days=7)
    lease = desk.take()
    judge(desk, active_ms=2 * MINUTE)
    desk.undo(lease)
    judge(desk, active_ms=1 * MINUTE)
    session.commit()
    return desk


def test_weeks_count_what_is_in_force_and_time_all_that_was_judged(session: Session, desk: Desk) -> None:
    later, week = work_of_person(session, desk.annotator_id)
    assert (week.week, later.week) == (NOW.date() - timedelta(days=NOW.weekday()), week.week + timedelta(days=7))
    assert (week.judged, week.set_aside, week.untimed, week.skipped, week.active_ms) == (3, 1, 1, 1, 75 * MINUTE)
    assert (later.judged, later.set_aside, later.untimed, later.skipped, later.active_ms) == (1, 0, 0, 0, 3 * MINUTE)
    assert week.active_time == "1 h 15 min"
    assert (in_hours(0), in_hours(59 * MINUTE), in_hours(61 * MINUTE)) == ("0 min", "59 min", "1 h 1 min")


def test_a_change_in_the_history_moves_no_judgment_to_another_week(session: Session, desk: Desk) -> None:
    desk.now += timedelta(days=1)
    lease = desk.take()
    judge(desk, active_ms=MINUTE)
    before = work_of_person(session, desk.annotator_id)
    desk.now += timedelta(days=6)
    verdict = Verdict(ranking="2>1")
    held = desk.hold(lease)
    record_judgment(session, assignment=held, verdict=verdict, key=uuid.uuid4(), now=desk.now, in_place=True)
    after = work_of_person(session, desk.annotator_id)
    assert [(week.week, week.judged, week.untimed) for week in after if week.judged] == [
        (week.week, week.judged, week.untimed) for week in before
    ]


def test_the_start_page_says_how_long_what_is_left_takes_once_five_have_a_time(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    other = make_campaign(session, name="Shut", state=CampaignState.PAUSED)
    for _ in range(4):
        make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    person = session.get_one(User, desk.annotator_id)
    enrol(session, person, other)
    for minutes in (1, 2, 90, 3):
        judge(desk, active_ms=minutes * MINUTE)
    session.commit()
    browser = signed_in(person)
    home = browser.get("/").text
    assert "6 left for you ·" in home, "four say too little; the other campaign hands out nothing"
    assert home.count("left for you") == 1
    judge(desk, active_ms=None)
    judge(desk, active_ms=3 * MINUTE)
    session.commit()
    assert "4 left for you, about 12 min at your pace" in browser.get("/").text


def rows(browser: TestClient, address: str) -> list[dict[str, str]]:
    answer = browser.get(address)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))


def test_each_sees_their_own_and_a_manager_everybodys(
    session: Session, campaign: Campaign, desk: Desk, signed_in: SignedIn
) -> None:
    other = make_desk(session, campaign)
    judge(other, active_ms=MINUTE)
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, judges=False, access=Access.MANAGE)
    session.commit()
    annotator = signed_in(session.get_one(User, desk.annotator_id))
    page = annotator.get("/work").text
    assert "1 h 18 min" in page
    assert "lower bound" in page
    (later, week) = rows(annotator, "/work.csv")
    assert week["active_hours"] == "1.250"
    assert week["campaign"] == "'=Kind words", "no spreadsheet runs it"
    assert (later["judged"], later["without_time"], later["set_aside"]) == ("1", "0", "0")
    assert annotator.get(f"/campaigns/{campaign.id}/work").status_code == 403
    assert annotator.get(f"/campaigns/{campaign.id}/work.csv").status_code == 403
    managing = signed_in(manager)
    assert len(rows(managing, f"/campaigns/{campaign.id}/work.csv")) == 3
    assert "1 h 18 min" in managing.get(f"/campaigns/{campaign.id}/work").text
    assert "78 min active" in managing.get(f"/campaigns/{campaign.id}/people").text
    assert "Nothing here yet" in managing.get("/work").text
    assert progress_by_person(session, campaign.id)[desk.annotator_id].active_ms == 78 * MINUTE
    assert {week.user_id for week in work_in_campaign(session, campaign.id)} == {desk.annotator_id, other.annotator_id}
