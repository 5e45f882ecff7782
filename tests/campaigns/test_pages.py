"""The pages of campaigns as people use them: list, form, the campaign itself, its people."""

import re
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.access import find_enrolment
from app.campaigns.models import Access, Campaign, CampaignState
from app.campaigns.service import current_revision
from app.deployments.models import Alias
from tests.conftest import SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.deployments import make_line, make_version
from tests.factories.generation import make_prompt

HTMX = {"HX-Request": "true"}


@pytest.fixture
def manager(session: Session) -> User:
    return make_user(session, Role.MANAGER, name="Mira")


@pytest.fixture
def browser(manager: User, signed_in: SignedIn) -> TestClient:
    return signed_in(manager)


def managed(session: Session, manager: User, **given: Any) -> Campaign:
    """A campaign that the manager manages and judges in."""
    campaign = make_campaign(session, **given)
    enrol(session, manager, campaign, access=Access.MANAGE)
    session.commit()
    return campaign


def filled_in(**changed: object) -> dict[str, object]:
    """The campaign form as a browser sends it."""
    as_shown = {
        "name": "Kind words",
        "guidelines": "Prefer **kind** words.",
        "ties_allowed": "true",
        "source": "none",
        "comparisons_per_prompt": "2",
        "redundancy": "3",
        "samples_drawn": "4",
        "temperature": "0.9",
        "top_p": "0.95",
        "max_tokens": "64",
        "system_prompt": "",
    }
    return {**as_shown, **changed}


def text_of(page: str) -> str:
    """What a person reads on a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_manager_without_campaigns_is_told_what_one_is(browser: TestClient) -> None:
    page = browser.get("/campaigns").text
    assert "Create the first campaign" in page
    assert 'href="/campaigns/new"' in page


def test_a_campaign_is_created_from_one_form(session: Session, manager: User, browser: TestClient) -> None:
    line = make_line(session, slug="toy")
    session.commit()
    assert (
        f'value="{line.id}:current" selected>{line.name}: follow “current” (now toy-v0)'
        in browser.get("/campaigns/new").text
    )
    answer = browser.post("/campaigns", data=filled_in(source=f"{line.id}:current"))
    campaign = session.scalars(select(Campaign)).one()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{campaign.id}?said=created")
    assert (campaign.state, campaign.line_id, campaign.alias) == (CampaignState.DRAFT, line.id, Alias.CURRENT)
    assert (campaign.comparisons_per_prompt, campaign.redundancy, campaign.turns_over) == (2, 3, False)
    revision = current_revision(session, campaign.id)
    assert (revision.ties_allowed, revision.all_bad_allowed) == (True, False), "a switch that is off is not sent"
    page = text_of(browser.get(answer.headers["location"]).text)
    assert "The campaign is created" in page
    assert "It has no active prompts. Add or import some." in page


def test_a_campaign_can_have_the_reward_model_choose_its_samples(session: Session, browser: TestClient) -> None:
    line = make_line(session, slug="toy")
    session.commit()
    assert not re.search(r'name="picks_uncertain"[^>]*checked', browser.get("/campaigns/new").text)
    answer = browser.post("/campaigns", data=filled_in(source=f"{line.id}:current", picks_uncertain="true"))
    assert answer.status_code == 303
    campaign = session.scalars(select(Campaign)).one()
    assert campaign.picks_uncertain
    assert "hardest to tell apart" in text_of(browser.get(answer.headers["location"]).text)
    assert re.search(r'name="picks_uncertain"[^>]*checked', browser.get(f"/campaigns/{campaign.id}/edit").text)
    browser.post(f"/campaigns/{campaign.id}", data=filled_in(source=f"{line.id}:current"))
    session.refresh(campaign)
    assert not campaign.picks_uncertain
    assert "hardest to tell apart" not in text_of(browser.get(f"/campaigns/{campaign.id}").text)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": " "}, "This is too short"),
        ({"redundancy": "0"}, "Greater than or equal to 1"),
        ({"temperature": "0"}, "At 0 all samples are the same"),
        ({"top_p": "nan"}, "Less than or equal to 1"),
        ({"samples_drawn": "x"}, "valid integer"),
        ({"source": "1:tomorrow"}, "Choose one of the models offered"),
        ({"source": "987654:current"}, "no such model line any more"),
        ({"source": "99999999999999999999:current"}, "Choose one of the models offered"),
    ],
)
def test_a_form_that_cannot_be_comes_back_as_typed_with_what_is_wrong(
    session: Session, browser: TestClient, wrong: dict[str, object], said: str
) -> None:
    answer = browser.post("/campaigns", data=filled_in(**wrong))
    assert answer.status_code == 422
    assert said in unescape(answer.text)
    assert "Prefer **kind** words." in answer.text
    assert session.scalars(select(Campaign)).all() == []


def test_guidelines_are_previewed_as_annotators_will_see_them(session: Session, browser: TestClient) -> None:
    hostile = "Prefer **kind** words. <script>alert(1)</script>"
    fragment = browser.post("/campaigns/guidelines-preview", data={"guidelines": hostile}, headers=HTMX).text
    assert fragment.lstrip().startswith('<section id="guidelines-preview"')
    assert "<strong>kind</strong>" in fragment
    assert "<script" not in fragment
    page = browser.post("/campaigns", data=filled_in(preview="1", redundancy=""))
    assert (page.status_code, "<strong>kind</strong>" in page.text) == (200, True), "without script, by a button"
    assert session.scalars(select(Campaign)).all() == []


def test_settings_are_changed_and_only_a_changed_question_makes_a_revision(
    session: Session, manager: User, browser: TestClient
) -> None:
    campaign = managed(session, manager)
    same_question = {"guidelines": "Prefer what helps.\r\n", "all_bad_allowed": "true"}
    source = f"{campaign.line_id}:current"
    assert f'value="{source}" selected' in browser.get(f"/campaigns/{campaign.id}/edit").text
    form = filled_in(**same_question, source=source, name="New name")
    assert browser.post(f"/campaigns/{campaign.id}", data=form).status_code == 303
    session.expire_all()
    assert (campaign.name, campaign.max_tokens) == ("New name", 64)
    assert current_revision(session, campaign.id).number == 1
    browser.post(f"/campaigns/{campaign.id}", data={**form, "guidelines": "Prefer what is short."})
    assert current_revision(session, campaign.id).number == 2


def test_a_version_is_pinned_and_a_refusal_changes_nothing(
    session: Session, manager: User, browser: TestClient, clock: Any
) -> None:
    campaign = managed(session, manager, opened_at=clock())
    assert campaign.line is not None
    version = make_version(session, campaign.line)
    other = make_line(session)
    session.commit()
    refused = browser.post(f"/campaigns/{campaign.id}", data=filled_in(source=f"{other.id}:current"))
    assert (refused.status_code, "its judgments belong to its model line" in refused.text) == (409, True)
    assert current_revision(session, campaign.id).number == 1
    browser.post(f"/campaigns/{campaign.id}", data=filled_in(source=f"{campaign.line_id}:v{version.id}"))
    session.expire_all()
    assert (campaign.alias, campaign.pinned_version_id) == (None, version.id)
    assert f"{version.name}, pinned" in text_of(browser.get(f"/campaigns/{campaign.id}").text)


def test_a_campaign_is_opened_paused_resumed_and_closed(session: Session, manager: User, browser: TestClient) -> None:
    campaign = managed(session, manager, state=CampaignState.DRAFT)
    path = f"/campaigns/{campaign.id}"
    refused = browser.post(f"{path}/opening")
    assert (refused.status_code, "no active prompts" in refused.text) == (409, True)
    make_prompt(session, campaign)
    session.commit()
    shown = {"opening": "Pause", "pause": "Resume", "closure": "is closed"}
    for action in ("opening", "pause", "opening", "closure"):
        answer = browser.post(f"{path}/{action}")
        assert answer.status_code == 303
        assert shown[action] in text_of(browser.get(answer.headers["location"]).text)
    assert browser.post(f"{path}/opening").status_code == 409


def test_the_figures_are_asked_for_again_only_while_the_campaign_is_open(
    session: Session, manager: User, browser: TestClient
) -> None:
    campaign = managed(session, manager)
    make_prompt(session, campaign)
    session.commit()
    fragment = browser.get(f"/campaigns/{campaign.id}", headers=HTMX).text
    assert fragment.lstrip().startswith('<section id="campaign-progress"')
    assert "every 10s" in fragment
    assert "0 of 1 comparisons judged" in text_of(fragment)
    campaign.state = CampaignState.PAUSED
    session.commit()
    assert "every 10s" not in browser.get(f"/campaigns/{campaign.id}", headers=HTMX).text


def test_a_researcher_sees_a_campaign_without_names_or_buttons(
    session: Session, manager: User, signed_in: SignedIn
) -> None:
    campaign, researcher = managed(session, manager), make_user(session, Role.RESEARCHER)
    enrol(session, researcher, campaign, judges=False, access=Access.RESEARCH)
    page = signed_in(researcher).get(f"/campaigns/{campaign.id}").text
    assert campaign.name in page
    assert "Mira" not in page
    assert "/pause" not in page


def test_an_annotator_sees_only_what_they_judge_and_no_figures(session: Session, signed_in: SignedIn) -> None:
    mine, _other = make_campaign(session, name="Mine"), make_campaign(session, name="Not mine")
    annotator = make_user(session)
    enrol(session, annotator, mine)
    page = text_of(signed_in(annotator).get("/campaigns").text)
    assert "Mine" in page
    assert "Not mine" not in page
    assert "comparisons judged" not in page


def test_people_are_enrolled_changed_and_removed(session: Session, manager: User, browser: TestClient) -> None:
    campaign, researcher = managed(session, manager), make_user(session, Role.RESEARCHER, name="Rosa")
    session.commit()
    path = f"/campaigns/{campaign.id}/people"
    answer = browser.post(path, data={"email": researcher.email, "judges": "true", "access": "none"})
    assert "They are enrolled." in browser.get(answer.headers["location"]).text
    browser.post(f"{path}/{researcher.id}", data={"access": "research"})
    session.expire_all()
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=researcher.id)
    assert enrolment is not None
    assert (enrolment.judges, enrolment.access) == (False, Access.RESEARCH)
    assert browser.post(f"{path}/{researcher.id}", data={"access": "manage"}).status_code == 422
    browser.post(f"{path}/{researcher.id}/removal")
    assert "Rosa" not in browser.get(path).text


def test_an_unknown_email_is_refused_beside_its_field(session: Session, manager: User, browser: TestClient) -> None:
    path = f"/campaigns/{managed(session, manager).id}/people"
    answer = browser.post(path, data={"email": "new@example.org", "judges": "true", "access": "none"})
    assert answer.status_code == 404
    assert 'id="email-error">Nobody here has the email new@example.org. Invite them by a link' in answer.text
    assert 'value="new@example.org"' in answer.text


def test_somebody_new_joins_by_a_link_and_may_judge_at_once(
    session: Session, manager: User, browser: TestClient, visitor: TestClient
) -> None:
    campaign = managed(session, manager)
    form = {"email": "new@example.org", "judges": "true", "access": "none"}
    answer = browser.post(f"/campaigns/{campaign.id}/invitations", data=form)
    assert answer.status_code == 201
    found = re.search(r'id="address" value="http://localhost(/links/[^"]+)"', answer.text)
    assert found
    assert "new@example.org" in text_of(browser.get(f"/campaigns/{campaign.id}/people").text)
    opened = visitor.get(found[1])
    token = re.search(r'name="csrf_token" value="([^"]*)"', opened.text)
    assert token
    joining = {"csrf_token": token[1], "name": "Nia", "email": "new@example.org", "password": "seven quiet herons"}
    assert visitor.post(found[1], data=joining).status_code == 303
    nia = session.scalars(select(User).where(User.name == "Nia")).one()
    enrolment = find_enrolment(session, campaign_id=campaign.id, user_id=nia.id)
    assert enrolment is not None
    assert (enrolment.judges, enrolment.access) == (True, Access.NONE)
