"""Error spans: what is marked is what is stored, code point by code point, and nothing that does not fit is."""

import json
import re
from html import unescape
from itertools import permutations
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given as given_any
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.asking import MOST_SPANS, NOTHING, Asked, Criterion
from app.campaigns.models import Access, Campaign, CampaignRevision
from app.comparisons.models import Comparison, Judgment
from app.comparisons.service.erasing import erase_judgments
from app.comparisons.service.marking import read_spans, sent_spans
from app.comparisons.spans import Span, divided, overlap_of
from app.errors import Invalid
from tests.conftest import SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import make_desk

ASKED = Asked(spans=(Criterion(name="Wrong", help="It is not so."), Criterion(name="Unclear")))
ODD = "a🙂b\r\n<b>\u202ec\u2069 e\u0301.\r"
"""Characters beyond 16 bits, line ends that HTML changes, markup, and characters that reorder what follows."""
TEXTS = [ODD, "Two words."]


def span(place: int, start: int, end: int, category: int = 1, **other: Any) -> dict[str, Any]:
    """A span as the page sends it, with the right words unless told otherwise."""
    text = TEXTS[place - 1][start:end]
    return {"place": place, "start": start, "end": end, "category": category, "text": text, **other}


def read(*sent: dict[str, Any], order: tuple[int, ...] = (71, 72), asked: Asked = ASKED) -> dict[str, Any]:
    return read_spans(json.dumps(sent), asked=asked, shown_order=order, texts=TEXTS)


@pytest.mark.parametrize("order", list(permutations([71, 72])))
def test_spans_are_kept_by_completion_and_read_back_as_they_were_sent(order: tuple[int, ...]) -> None:
    sent = [span(1, 0, 2), span(1, 1, 5, 2), span(1, 2, 6), span(2, 4, 9, 2)]
    stored = read(*sent[::-1], order=order)
    assert stored == {
        str(order[0]): [
            {"start": 0, "end": 2, "category": "Wrong"},
            {"start": 1, "end": 5, "category": "Unclear"},
            {"start": 2, "end": 6, "category": "Wrong"},
        ],
        str(order[1]): [{"start": 4, "end": 9, "category": "Unclear"}],
    }
    field = sent_spans(stored, asked=ASKED, shown_order=order, texts=TEXTS)
    assert field.isascii(), "nothing on the way to the page and back may change a character"
    assert json.loads(field) == sent
    assert read_spans(field, asked=ASKED, shown_order=order, texts=TEXTS) == stored
    fewer = Asked(spans=ASKED.spans[1:])
    left = json.loads(sent_spans(stored, asked=fewer, shown_order=order, texts=TEXTS))
    assert [each["category"] for each in left] == [1, 1]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([span(2, 4, 11)], "outside its text"),
        ([span(2, 4, 4)], "outside its text"),
        ([span(2, 5, 4)], "outside its text"),
        ([span(2, 4, 9, text="word")], "“word” is not what stands where you marked it"),
        ([span(1, 3, 5, text="\n\r")], "is not what stands"),
        ([span(2, 4, 9, 3)], "not asked here"),
        ([{**span(2, 4, 9), "place": 3}], "not asked here"),
        ([{**span(2, 4, 9), "place": 0}], "could not be read"),
        ([{**span(2, 4, 9), "start": "4"}], "could not be read"),
        ([{**span(2, 4, 9), "note": "?"}], "could not be read"),
        ([span(2, 0, 5), span(2, 4, 9)], "Two marks “Wrong” overlap at “words”"),
        ([span(2, 0, 5), span(2, 0, 5)], "overlap"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_do(sent: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)):
        read(*sent)


@pytest.mark.parametrize("sent", ["", "{}", "[1]", "null", "[" * 100_000, '[{"place": 1'])
def test_what_is_no_list_of_spans_is_refused(sent: str) -> None:
    with pytest.raises(Invalid, match="could not be read"):
        read_spans(sent, asked=ASKED, shown_order=[71, 72], texts=TEXTS)


def test_there_are_at_most_so_many_in_one_completion() -> None:
    text = "x" * (MOST_SPANS + 1)
    sent = [{"place": 1, "start": at, "end": at + 1, "category": 1, "text": "x"} for at in range(len(text))]

    def read_some(count: int) -> dict[str, Any]:
        return read_spans(json.dumps(sent[:count]), asked=ASKED, shown_order=[71, 72], texts=[text, text])

    assert len(read_some(MOST_SPANS)["71"]) == MOST_SPANS
    with pytest.raises(Invalid, match="At most 50 marks"):
        read_some(MOST_SPANS + 1)


places = st.integers(0, len(ODD))


@given_any(st.lists(st.tuples(places, places, st.sampled_from("AB")).filter(lambda each: each[0] < each[1])))
def test_a_text_is_divided_without_losing_a_character(given: list[tuple[int, int, str]]) -> None:
    spans = [Span(*each) for each in set(given)]
    pieces = divided(ODD, spans)
    assert "".join(piece.text for piece in pieces) == ODD
    for each in spans:
        assert "".join(piece.text for piece in pieces if each in piece.spans) == ODD[each.start : each.end]
    assert sorted(each for piece in pieces for each in piece.begins) == sorted(spans)
    assert sorted(each for piece in pieces for each in piece.ends) == sorted(spans)
    clashes = any(
        one.category == other.category and one.start < other.end and other.start < one.end
        for at, one in enumerate(spans)
        for other in spans[:at]
    )
    assert (overlap_of(spans) is not None) is clashes


@pytest.fixture
def campaign(session: Session) -> Campaign:
    """A campaign that has errors marked, with one comparison."""
    campaign = make_campaign(session)
    (revision,) = session.scalars(select(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id))
    revision.scales = ASKED.scales()
    make_comparison(session, campaign, texts=TEXTS)
    session.commit()
    return campaign


def annotator(session: Session, campaign: Campaign, signed_in: SignedIn) -> TestClient:
    desk = make_desk(session, campaign)
    session.commit()
    return signed_in(session.get_one(User, desk.annotator_id))


def form(page: str, action: str = "judgment") -> tuple[str, str]:
    address = re.search(rf'action="(/assignments/[^"]+/{action})"', page)
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert address
    assert key
    return address[1], key[1]


def test_spans_are_recorded_shown_changed_seen_by_managers_and_erased(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    browser = annotator(session, campaign, signed_in)
    page = browser.get(f"/campaigns/{campaign.id}/judge").text
    address, key = form(page)
    texts = browser.get(address.replace("/judgment", "/texts")).json()["texts"]
    assert sorted(texts) == sorted(TEXTS)
    odd = texts.index(ODD) + 1
    good = [{**span(1, 1, 5), "place": odd}, {**span(1, 3, 10, 2), "place": odd}]
    wrong = [{**span(1, 1, 5), "place": odd, "text": "?"}]
    refused = browser.post(address, data={"key": key, "ranking": "1>2", "spans": json.dumps(wrong)})
    assert refused.status_code == 422
    assert "is not what stands where you marked it" in refused.text
    assert session.scalars(select(Judgment)).all() == []
    sent = {"key": key, "ranking": "1>2", "spans": json.dumps(good)}
    assert browser.post(address, data=sent).status_code == 303
    judgment = session.scalars(select(Judgment)).one()
    assert judgment.assignment is not None
    completion = str(judgment.assignment.shown_order[odd - 1])
    wrong_one, unclear_one = (
        {"start": 1, "end": 5, "category": "Wrong"},
        {"start": 3, "end": 10, "category": "Unclear"},
    )
    assert judgment.spans == {completion: [wrong_one, unclear_one]}
    history = browser.get(f"/campaigns/{campaign.id}/judgments").text
    assert re.findall(r'<mark class="is-(\d)">', history) == ["1", "2", "1", "2"], (
        "🙂b, then \\r\\n in both, then the rest"
    )
    assert re.findall(r"marked as </span>(\w+)</span>", history) == ["Wrong", "Unclear"]
    assert "\u202e" not in history
    opened = browser.get(address).text
    found = re.search(r'name="spans" data-spans value="([^"]+)"', opened)
    assert found
    assert json.loads(unescape(found[1])) == good
    revise, key = form(opened, "revision")
    kept = {"key": key, "chosen": "2>1", "spans": unescape(found[1])}
    assert browser.post(revise, data=kept).status_code == 303
    _, key = form(browser.get(address).text, "revision")
    assert browser.post(revise, data={"key": key, "chosen": "2>1", "spans": json.dumps(good[:1])}).status_code == 303
    spans = session.scalars(select(Judgment.spans).order_by(Judgment.revision)).all()
    assert spans == [{completion: [wrong_one, unclear_one]}] * 2 + [{completion: [wrong_one]}]
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, access=Access.MANAGE)
    session.commit()
    managing = signed_in(manager)
    comparison = session.scalars(select(Comparison)).one()
    seen = managing.get(f"/comparisons/{comparison.id}").text
    assert "2 marks" in seen
    assert "characters 3 to 10" in seen
    assert "1 mark<" in managing.get(f"/comparisons?campaign={campaign.id}").text
    erase_judgments(session, annotator_id=judgment.assignment.annotator_id)
    session.expire_all()
    assert {each.spans for each in session.scalars(select(Judgment))} == {None}


def test_the_page_holds_nothing_of_it_where_no_categories_are_asked(session: Session, signed_in: SignedIn) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    page = annotator(session, campaign, signed_in).get(f"/campaigns/{campaign.id}/judge").text
    assert not re.search("spans|marking|data-mark", page)


def test_what_is_not_asked_is_not_kept(session: Session, signed_in: SignedIn) -> None:
    assert NOTHING.spans == ()
    campaign = make_campaign(session)
    make_comparison(session, campaign, texts=TEXTS)
    browser = annotator(session, campaign, signed_in)
    address, key = form(browser.get(f"/campaigns/{campaign.id}/judge").text)
    sent = {"key": key, "ranking": "1>2", "spans": json.dumps([span(2, 0, 3)])}
    assert browser.post(address, data=sent).status_code == 303
    assert session.scalars(select(Judgment.spans)).one() is None


def test_texts_are_given_to_whoever_judges_them_alone(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    address, _ = form(annotator(session, campaign, signed_in).get(f"/campaigns/{campaign.id}/judge").text)
    texts = address.replace("/judgment", "/texts")
    assert annotator(session, campaign, signed_in).get(texts).status_code == 409
    assert signed_in(make_user(session)).get(texts).status_code == 404


def test_categories_are_written_in_the_form_previewed_and_at_most_nine(session: Session, signed_in: SignedIn) -> None:
    manager = signed_in(make_user(session, Role.MANAGER))
    asked = {"spans": "Wrong: it is not so\nUnclear", "completions_per_comparison": "2"}
    shown = manager.post("/campaigns/preview", data=asked).text
    for said in ("Mark errors", 'title="it is not so"', 'data-category="2"', 'class="marked-label is-1"'):
        assert said in shown
    many = "\n".join(f"Category {number}" for number in range(10))
    assert "At most 9 lines" in manager.post("/campaigns/preview", data={**asked, "spans": many}).text
    assert "is there twice" in manager.post("/campaigns/preview", data={**asked, "spans": "Wrong: a\nWrong: b"}).text
