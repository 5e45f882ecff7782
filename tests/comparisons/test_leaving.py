"""A campaign's warning before anything of it is shown; leaving it, and coming back."""

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.audit import AuditEntry
from app.campaigns.models import Access, Campaign, CampaignState, Enrolment
from app.campaigns.schemas import CampaignForm, typed_for
from app.campaigns.service.editing import current_revision, edit_campaign
from app.comparisons.models import Assignment, AssignmentState, Judgment, Slot
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import Desk, make_desk


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session, content_warning="Some of it is <b>violent</b>.")
    for _ in range(3):
        make_comparison(session, campaign)
    return campaign


@pytest.fixture
def desk(session: Session, campaign: Campaign) -> Desk:
    return make_desk(session, campaign)


@pytest.fixture
def browser(session: Session, desk: Desk, signed_in: SignedIn) -> TestClient:
    session.commit()
    return signed_in(session.get_one(User, desk.annotator_id))


def enrolment(session: Session, desk: Desk) -> Enrolment:
    return session.get_one(Enrolment, (desk.campaign_id, desk.annotator_id), populate_existing=True)


def test_the_warning_comes_before_the_first_comparison_and_only_once(
    session: Session, campaign: Campaign, desk: Desk, browser: TestClient
) -> None:
    address, warning = f"/campaigns/{campaign.id}/judge", f"/campaigns/{campaign.id}/content-warning"
    assert browser.get(address).headers["location"] == warning
    assert browser.get(address, headers={"HX-Request": "true"}).headers["HX-Redirect"] == warning
    assert session.scalars(select(Assignment)).all() == [], "nothing is given out before"
    page = browser.get(warning).text
    assert "Some of it is &lt;b&gt;violent" in page
    assert "Leave this campaign" in page
    assert browser.post(warning).headers["location"] == address
    assert browser.get(address).status_code == 200
    assert enrolment(session, desk).warned_at == NOW


def test_another_warning_is_shown_again_and_the_same_one_is_not(
    session: Session, campaign: Campaign, desk: Desk, browser: TestClient
) -> None:
    browser.post(f"/campaigns/{campaign.id}/content-warning")

    def save(warning: str) -> int:
        typed = {**typed_for(campaign, current_revision(session, campaign.id)), "content_warning": warning}
        plan = CampaignForm.model_validate(typed).plan()
        edit_campaign(session, campaign=campaign, plan=plan, by_id=None, now=NOW)
        session.commit()
        return browser.get(f"/campaigns/{campaign.id}/judge").status_code

    assert save(" Some of it is <b>violent</b>.\r\n") == 200
    assert save("Violence, and slurs.") == 303
    assert save("") == 200


def test_whoever_leaves_gives_back_what_was_at_their_desk_and_keeps_what_they_judged(
    session: Session, campaign: Campaign, desk: Desk, browser: TestClient, signed_in: SignedIn, clock: StoppedClock
) -> None:
    judged = desk.judge(desk.take())
    held = desk.take()
    session.commit()
    assert browser.post(f"/campaigns/{campaign.id}/departure").headers["location"] == "/"
    assert session.scalars(select(Slot).where(Slot.assignment_id == held.assignment_id)).all() == []
    assert desk.assignment(held).state is AssignmentState.EXPIRED
    assert session.get_one(Judgment, judged.judgment_id).surplus is False
    assert (enrolment(session, desk).judges, enrolment(session, desk).left_at) == (False, NOW)
    for address in ("judge", "judgments", "content-warning"):
        assert browser.get(f"/campaigns/{campaign.id}/{address}").status_code == 404
    assert browser.post(f"/campaigns/{campaign.id}/departure").status_code == 404
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, judges=False, access=Access.MANAGE)
    session.commit()
    clock.forward(days=2)
    assert "left 2 days ago" in signed_in(manager).get(f"/campaigns/{campaign.id}/people").text
    assert "Campaigns that you left" in browser.get("/").text
    assert browser.post(f"/campaigns/{campaign.id}/return").headers["location"].endswith("/judge")
    assert (enrolment(session, desk).judges, enrolment(session, desk).left_at) == (True, None)
    assert browser.get(f"/campaigns/{campaign.id}/judge").status_code == 303, "the warning comes first, again"
    browser.post(f"/campaigns/{campaign.id}/content-warning")
    assert browser.get(f"/campaigns/{campaign.id}/judge").status_code == 200
    deeds = session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert deeds == ["campaign.person_left", "campaign.person_came_back"]


def test_nobody_comes_back_who_did_not_leave_nor_where_it_is_over(
    session: Session, campaign: Campaign, desk: Desk, browser: TestClient, signed_in: SignedIn
) -> None:
    stranger, removed = make_user(session), make_user(session)
    part = enrol(session, removed, campaign, judges=False, access=Access.NONE)
    session.commit()
    for who in (stranger, removed):
        assert signed_in(who).post(f"/campaigns/{campaign.id}/return").status_code == 404
    assert part.judges is False
    browser.post(f"/campaigns/{campaign.id}/departure")
    campaign.state = CampaignState.CLOSED
    session.commit()
    assert browser.post(f"/campaigns/{campaign.id}/return").status_code == 409
    assert "Campaigns that you left" not in browser.get("/").text
