"""Examples beside the guidelines: written in the campaign's form with or without a script, kept by revision, shown to
annotators.
"""

import re
import uuid
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.guidance import MOST_EXAMPLES, Guidance, guidance
from app.campaigns.models import Access, Campaign
from app.campaigns.service import current_revision, revise_campaign
from app.campaigns.service.editing import Question
from app.datasets.card import DescribedCampaign, _campaigns
from app.errors import Invalid
from tests.campaigns.test_pages import filled_in
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison

HTMX = {"HX-Request": "true"}
SKY = {
    "prompt": "Why is the sky blue?",
    "good": "Light *scatters*.",
    "bad": "It reflects the sea.",
    "why": "Only one is true.",
}


@pytest.fixture
def manager(session: Session) -> User:
    return make_user(session, Role.MANAGER, name="Mira")


@pytest.fixture
def browser(manager: User, signed_in: SignedIn) -> TestClient:
    return signed_in(manager)


@pytest.fixture
def campaign(session: Session, manager: User) -> Campaign:
    campaign = make_campaign(session)
    enrol(session, manager, campaign, access=Access.MANAGE)
    session.commit()
    return campaign


def rows(*examples: dict[str, str]) -> dict[str, str]:
    """Examples as the fields of a form."""
    return {f"examples-{n}-{name}": text for n, row in enumerate(examples, start=1) for name, text in row.items()}


def typed_in(page: str) -> dict[str, str]:
    """What stands in the rows of a page, by field."""
    found = re.findall(r'<textarea[^>]* name="(examples-[^"]+)"[^>]*>\n?(.*?)</textarea>', page, re.DOTALL)
    return {name: unescape(text) for name, text in found}


def test_examples_are_saved_as_a_revision_and_shown_with_the_guidelines(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    source = f"{campaign.line_id}:current"
    form = filled_in(source=source, **rows(SKY, {}, {"prompt": "Say hello.", "bad": "No."}))
    assert browser.post(f"/campaigns/{campaign.id}", data=form).status_code == 303
    revision = current_revision(session, campaign.id)
    assert revision.number == 2
    assert revision.examples == [SKY, {"prompt": "Say hello.", "good": "", "bad": "No.", "why": ""}]
    page = browser.get(f"/campaigns/{campaign.id}").text
    assert "<em>scatters</em>" in page
    edited = typed_in(browser.get(f"/campaigns/{campaign.id}/edit").text)
    assert edited == rows(SKY, {"prompt": "Say hello.", "good": "", "bad": "No.", "why": ""})
    browser.post(f"/campaigns/{campaign.id}", data={**form, **{k: f"{v}\r\n" for k, v in rows(SKY).items()}})
    assert current_revision(session, campaign.id).number == 2, "nothing changed"
    browser.post(f"/campaigns/{campaign.id}", data=filled_in(source=source))
    assert current_revision(session, campaign.id).examples is None


def test_rows_come_and_go_without_a_script_and_nothing_that_was_typed_is_lost(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    for path in ("/campaigns", f"/campaigns/{campaign.id}"):
        form = filled_in(name="", **rows(SKY, {"prompt": "Second."}))
        page = browser.post(path, data={**form, "rows": "add"})
        assert page.status_code == 200
        typed = typed_in(page.text)
        assert typed["examples-1-good"] == SKY["good"]
        assert typed["examples-2-prompt"] == "Second."
        assert typed["examples-3-prompt"] == ""
        assert re.findall(r'id="(examples-[^"]+)"[^>]* autofocus', page.text) == ["examples-3-prompt"]
        typed = typed_in(browser.post(path, data={**form, "rows": "remove-1"}).text)
        assert (typed["examples-1-prompt"], len(typed)) == ("Second.", 4)
        for odd in ("remove-9", "remove-0", "remove-", "remove-x", "remove-²", f"remove-{'9' * 5000}", "", "0"):
            assert len(typed_in(browser.post(path, data={**form, "rows": odd}).text)) == 8
    assert current_revision(session, campaign.id).number == 1
    assert len(session.scalars(select(Campaign)).all()) == 1


def test_with_a_script_the_rows_and_their_preview_come_back_alone(browser: TestClient) -> None:
    answer = browser.post("/campaigns/examples", data={**rows(SKY), "rows": "add"}, headers=HTMX).text
    assert answer.lstrip().startswith('<div id="examples"')
    assert len(typed_in(answer)) == 8
    assert '<section id="guidelines-preview"' in answer
    assert 'hx-swap-oob="outerHTML"' in answer
    assert "<em>scatters</em>" in answer
    hostile = {"prompt": "<script>alert(1)</script>", "good": "</textarea><script>alert(2)</script>"}
    answer = browser.post("/campaigns/examples", data=rows(hostile), headers=HTMX).text
    assert "<script" not in answer
    preview = browser.post("/campaigns/guidelines-preview", data=rows(SKY), headers=HTMX).text
    assert "It reflects the sea." in preview


def test_what_is_wrong_is_said_at_its_field_and_everything_stays(session: Session, browser: TestClient) -> None:
    wrong = rows(
        SKY, {"good": "An answer to nothing."}, {"prompt": "Asked, and no more."}, {"prompt": "x" * 4001, "good": "y"}
    )
    answer = browser.post("/campaigns", data=filled_in(**wrong))
    assert answer.status_code == 422
    page = unescape(answer.text)
    said = dict(re.findall(r'<p class="field-error" id="([^"]+)-error">([^<]+)</p>', page))
    assert said == {
        "examples-2-prompt": "Say what was asked.",
        "examples-3-good": "Write a good completion here, or a bad one beside it.",
        "examples-4-prompt": "Keep it to 4,000 characters.",
    }
    for name in said:
        assert re.search(rf'id="{name}" [^>]*aria-invalid="true" aria-describedby="{name}-error"', page)
    typed = typed_in(answer.text)
    assert {name: text for name, text in typed.items() if text} == wrong
    many = browser.post("/campaigns", data=filled_in(**rows(*[SKY] * (MOST_EXAMPLES + 1))))
    assert (many.status_code, "At most 20 examples" in many.text) == (422, True)
    assert len(typed_in(many.text)) == 4 * (MOST_EXAMPLES + 1)
    for odd in (
        {"examples": "x"},
        {"examples-x-good": "y"},
        {"examples-1-odd": "y"},
        {"examples-99999999999-good": "y"},
    ):
        assert browser.post("/campaigns", data=filled_in(name=" ", **odd)).status_code == 422
    assert session.scalars(select(Campaign)).all() == []


def test_a_text_as_long_as_its_field_is_taken_whatever_its_line_ends(session: Session, browser: TestClient) -> None:
    long = "x\n" * 1999 + "xx"
    form = filled_in(**rows({"prompt": "Why?", "good": long.replace("\n", "\r\n")}))
    assert browser.post("/campaigns", data=form).status_code == 303
    campaign = session.scalars(select(Campaign)).one()
    assert (current_revision(session, campaign.id).examples or [])[0]["good"] == long


def test_the_service_refuses_more_than_are_read(session: Session, campaign: Campaign) -> None:
    with pytest.raises(Invalid, match="At most 20"):
        revise_campaign(session, campaign=campaign, question=Question(examples=[SKY] * 21), by_id=None, now=NOW)


def judged_by(session: Session, campaign: Campaign, signed_in: SignedIn, *, comparisons: int = 3) -> TestClient:
    ann = make_user(session, name="Ann")
    enrol(session, ann, campaign)
    for _ in range(comparisons):
        make_comparison(session, campaign)
    session.commit()
    return signed_in(ann)


def told(session: Session, campaign: Campaign, *examples: dict[str, str], guidelines: str = "") -> None:
    question = Question(guidelines=guidelines, examples=list(examples))
    revise_campaign(session, campaign=campaign, question=question, by_id=None, now=NOW)
    session.commit()


def test_annotators_have_examples_in_the_sheet_of_guidelines_by_sign_and_word(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    told(session, campaign, SKY)
    page = judged_by(session, campaign, signed_in).get(f"/campaigns/{campaign.id}/judge").text
    assert 'popovertarget="guidelines"' in page, "there is something to read, though no guidelines"
    sheet = page[page.index('<div id="guidelines"') :]
    read = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", sheet))
    assert "Why is the sky blue? ✓ Good Light scatters . ✗ Bad It reflects the sea. Why Only one is true." in read
    assert '<details class="told" open>' in sheet
    told(session, campaign, *[SKY] * 4)
    page = (
        signed_in(session.scalars(select(User).where(User.name == "Ann")).one())
        .get(f"/campaigns/{campaign.id}/judge")
        .text
    )
    assert '<details class="told" >' in page, "many of them are folded"


def test_a_judgment_reads_no_examples_until_they_are_others(
    session: Session, campaign: Campaign, signed_in: SignedIn, engine: Any
) -> None:
    told(session, campaign, SKY, guidelines="Prefer what is true.")
    browser = judged_by(session, campaign, signed_in)
    page = browser.get(f"/campaigns/{campaign.id}/judge").text

    def judged(page: str) -> str:
        assignment = re.search(r"/assignments/([0-9a-f-]{36})/judgment", page)
        shape = re.search(r'"shape": "([^"]+)"', page)
        assert assignment
        assert shape
        data = {"ranking": "1>2", "key": str(uuid.uuid4()), "shape": shape[1]}
        return browser.post(f"/assignments/{assignment[1]}/judgment", data=data, headers=HTMX).text

    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    page = judged(page)
    event.remove(engine, "before_cursor_execute", note)
    assert not [each for each in said if "campaign_revisions.examples" in each]
    assert SKY["bad"] not in page
    assert 'popovertarget="guidelines"' in page
    told(session, campaign, {**SKY, "bad": "It is painted."}, guidelines="Prefer what is true.")
    assert "It is painted." in judged(page)


def test_a_judgment_opened_again_has_them_too(session: Session, campaign: Campaign, signed_in: SignedIn) -> None:
    told(session, campaign, SKY)
    browser = judged_by(session, campaign, signed_in)
    page = browser.get(f"/campaigns/{campaign.id}/judge").text
    assignment = re.search(r"/assignments/([0-9a-f-]{36})/judgment", page)
    assert assignment
    path = f"/assignments/{assignment[1]}/judgment"
    assert browser.post(path, data={"ranking": "1>2", "key": str(uuid.uuid4())}).status_code == 303
    assert "It reflects the sea." in browser.get(path).text


def test_the_card_of_a_snapshot_tells_them() -> None:
    card = _campaigns([DescribedCampaign("Sky", [(1, Guidance("Be kind.")), (2, guidance("", [SKY]))])])
    assert "> Be kind." in card
    assert "Example 1, revision 2:\n\nprompt:\n\n> Why is the sky blue?\n\ngood:\n\n> Light *scatters*." in card
