"""What is answered beside the verdict: kept by completion, whatever the order in which they were shown."""

import re
from itertools import permutations
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.asking import NOTHING, Asked, Criterion, Rationale, Strength, asked_by
from app.campaigns.models import Campaign, CampaignRevision
from app.comparisons.models import Judgment
from app.comparisons.ranking import parse_ranking, to_completions
from app.comparisons.service.answers import Answers, Given, read_answers
from app.errors import Invalid
from tests.conftest import SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import make_desk

EVERYTHING = Asked(
    criteria=(Criterion(name="helpful", help="Does what was asked."), Criterion(name="honest")),
    strength=Strength.WORDS,
    confidence=True,
    rating=5,
    flags=("unsafe", "cut off"),
    rationale=Rationale.REQUIRED,
)
FIELDS = {
    "criterion-1": "2>1", "criterion-2": "1=2", "rating-1": "2", "rating-2": "5", "flag-1-2": "1", "confidence": "4",
    "rationale": " It is short. ",
}  # fmt: skip


def read(fields: dict[str, Any], order: list[int], *, wire: str | None = "2>1", strength: int | None = 3) -> Answers:
    ranking = None if wire is None else to_completions(parse_ranking(wire, len(order)), order)
    given = Given(fields, strength)
    return read_answers(given, asked=EVERYTHING, shown_order=order, ranking=ranking, all_bad=wire is None)


@pytest.mark.parametrize("order", list(permutations([71, 72])))
def test_every_answer_is_kept_by_completion(order: tuple[int, int]) -> None:
    first, second = order
    assert read(FIELDS, list(order)) == Answers(
        criteria={"helpful": [[second], [first]], "honest": [[71, 72]]},
        ratings={str(first): 2, str(second): 5},
        flags={str(first): ["cut off"]},
        confidence=4,
        rationale="It is short.",
        strengths=[3],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"criterion-2": ""}, "“honest” is missing"),
        ({"criterion-1": "2>2"}, "each position"),
        ({"rationale": "  "}, "Say why"),
        ({"confidence": "6"}, "from 1 to 5"),
        ({"rating-1": "0"}, "from 1 to 5"),
        ({"rating-2": "²"}, "from 1 to 5"),
    ],
)
def test_what_is_missing_or_odd_is_said(change: dict[str, str], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        read({**FIELDS, **change}, [71, 72])


def test_a_tie_has_no_strength_and_all_bad_needs_no_criteria() -> None:
    assert read(FIELDS, [71, 72], wire="1=2").strengths is None
    assert read({"rationale": "Both wrong."}, [71, 72], wire=None) == Answers(rationale="Both wrong.")


def test_what_is_not_asked_is_not_kept() -> None:
    given = Given(FIELDS, 3)
    assert read_answers(given, asked=NOTHING, shown_order=[71, 72], ranking=[[71], [72]], all_bad=False) == Answers()


def test_what_a_revision_asks_is_read_back_as_it_was_stored() -> None:
    assert asked_by([each.model_dump() for each in EVERYTHING.criteria], EVERYTHING.scales()) == EVERYTHING
    assert asked_by([], {}) is NOTHING


ALONE = Asked(criteria=EVERYTHING.criteria, criteria_alone=True)


def test_three_are_ranked_by_criteria_with_digits_alone_or_with_signs() -> None:
    given = Given({"criterion-1": "213", "criterion-2": " 3 > 1=2 "})
    answers = read_answers(given, asked=ALONE, shown_order=[71, 72, 73], ranking=None, all_bad=False)
    assert answers.criteria == {"helpful": [[72], [71], [73]], "honest": [[73], [71, 72]]}
    with pytest.raises(Invalid, match="each position"):
        read_answers(
            Given({"criterion-1": "21", "criterion-2": "123"}),
            asked=ALONE,
            shown_order=[71, 72, 73],
            ranking=None,
            all_bad=False,
        )


@pytest.fixture
def campaign(session: Session) -> Campaign:
    """A campaign that asks everything."""
    campaign = make_campaign(session)
    (revision,) = session.scalars(select(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id))
    revision.criteria = [each.model_dump() for each in EVERYTHING.criteria]
    revision.scales = EVERYTHING.scales()
    make_comparison(session, campaign)
    session.commit()
    return campaign


def test_the_page_asks_it_records_it_and_the_history_shows_it(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    browser = _annotator(session, campaign, signed_in)
    page = browser.get(f"/campaigns/{campaign.id}/judge").text
    for name in ("criterion-1", "criterion-2", "rating-2", "flag-1-2", "confidence", "rationale"):
        assert f'name="{name}"' in page
    address, key = _form(page)
    lacking = browser.post(address, data={"key": key, "graded": "1>2:4"}, headers={"HX-Request": "true"})
    assert lacking.status_code == 422
    for odd in ({"rationale": "a\x00b"}, {"criterion-1": "\x00"}, {"rating-1": "9" * 400}, {"confidence": "\ufffe"}):
        answer = browser.post(address, data={"key": key, "graded": "1>2:4", **FIELDS, **odd})
        assert answer.status_code == 422, odd
    assert browser.post(address, data={"key": key, "graded": "1>2:4", **FIELDS}).status_code == 303
    judgment = session.scalars(select(Judgment)).one()
    assert judgment.assignment is not None
    first, second = judgment.assignment.shown_order
    assert judgment.ranking == [[first], [second]]
    assert (judgment.strengths, judgment.confidence, judgment.rationale) == ([4], 4, "It is short.")
    assert judgment.criteria == {"helpful": [[second], [first]], "honest": [sorted([first, second])]}
    assert judgment.ratings == {str(first): 2, str(second): 5}
    assert judgment.flags == {str(first): ["cut off"]}
    history = browser.get(f"/campaigns/{campaign.id}/judgments").text
    for said in ("significantly better", "helpful: second", "honest: equal", "rated 5", "cut off", "It is short."):
        assert said in history


def test_where_criteria_stand_alone_the_verdict_is_what_they_say_together(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    (revision,) = session.scalars(select(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id))
    revision.scales = ALONE.scales()
    session.commit()
    browser = _annotator(session, campaign, signed_in)
    page = browser.get(f"/campaigns/{campaign.id}/judge").text
    assert "How do they compare?" in page
    assert 'name="ranking"' not in page
    address, key = _form(page)
    assert browser.post(address, data={"key": key}, headers={"HX-Request": "true"}).status_code == 422
    assert browser.post(address, data={"key": key, "criterion-1": "2>1", "criterion-2": "1=2"}).status_code == 303
    judgment = session.scalars(select(Judgment)).one()
    assert judgment.assignment is not None
    first, second = judgment.assignment.shown_order
    assert judgment.ranking == [[second], [first]]
    assert judgment.criteria == {"helpful": [[second], [first]], "honest": [sorted([first, second])]}
    opened = browser.get(address).text
    assert 'name="criterion-1" value="2>1" data-answer="2" checked>' in opened
    assert 'name="chosen"' not in opened
    _, key = _form(opened, "revision")
    changed = {"key": key, "criterion-1": "1>2", "criterion-2": "1=2"}
    assert browser.post(address.replace("/judgment", "/revision"), data=changed).status_code == 303
    rankings = session.scalars(select(Judgment.ranking).order_by(Judgment.revision)).all()
    assert rankings == [[[second], [first]], [[first], [second]]]


def test_a_manager_sees_the_form_before_it_is_saved(session: Session, signed_in: SignedIn) -> None:
    browser = signed_in(make_user(session, Role.MANAGER))
    asked = {"criteria": "helpful\nhonest", "rationale": "optional", "reasons": "Shorter", "strength": "points"}
    shown = browser.post("/campaigns/preview", data={**asked, "completions_per_comparison": "2"}).text
    for said in ("helpful", "Shorter", "Why is the sky blue?", 'data-key="8"', "inert"):
        assert said in shown
    ranked = browser.post("/campaigns/preview", data={"completions_per_comparison": "4"}).text
    assert "Rank them, best first" in ranked
    wrong = browser.post("/campaigns/preview", data={"criteria_alone": "true"}).text
    assert "there must be criteria" in wrong
    assert signed_in(make_user(session)).post("/campaigns/preview", data={}).status_code == 403


def _annotator(session: Session, campaign: Campaign, signed_in: SignedIn) -> TestClient:
    desk = make_desk(session, campaign)
    session.commit()
    return signed_in(session.get_one(User, desk.annotator_id))


def _form(page: str, action: str = "judgment") -> tuple[str, str]:
    address = re.search(rf'action="(/assignments/[^"]+/{action})"', page)
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert address
    assert key
    return address[1], key[1]
