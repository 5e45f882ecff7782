"""One's own history: found again by words, decision and flag; changed within the campaign's days."""

import re
import uuid
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from markupsafe import Markup
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.campaigns.asking import Asked
from app.campaigns.models import Campaign, CampaignRevision, CampaignState
from app.comparisons.models import Assignment, Judgment, Slot
from app.comparisons.service.history import Decision, HistorySearch, past_verdicts
from app.comparisons.service.judging import SLIP
from app.comparisons.service.leasing import Lease
from app.comparisons.service.rejecting import Grounds, reject_judgment
from app.errors import Conflict
from app.filled_forms import filled_in
from tests.comparisons.test_answers import EVERYTHING, FIELDS
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import Desk, make_desk
from tests.factories.generation import make_prompt


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session)


def ask(session: Session, campaign: Campaign, asked: Asked) -> None:
    """Have the campaign's revision ask this."""
    (revision,) = session.scalars(select(CampaignRevision).where(CampaignRevision.campaign_id == campaign.id))
    revision.criteria = [each.model_dump() for each in asked.criteria]
    revision.scales = asked.scales()
    session.commit()


def browser_of(session: Session, desk: Desk, signed_in: SignedIn) -> TestClient:
    session.commit()
    return signed_in(session.get_one(User, desk.annotator_id))


def form(page: str, action: str) -> tuple[str, dict[str, str]]:
    """Where a form is sent, and what the browser would send of its fields as they stand."""
    address = re.search(rf'action="(/assignments/[^"]+/{action})"', page)
    assert address, f"no form for {action}"
    sent = {}
    for tag in re.findall(r'<input\b(?:[^>"]|"[^"]*")*>', page):
        given = {name: unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}
        if "name" in given and (given.get("type") not in {"radio", "checkbox"} or tag.endswith(" checked>")):
            sent[given["name"]] = given.get("value", "")
    for name, value in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', page, re.S):
        sent[name] = unescape(value)
    return address[1], sent


def in_force(session: Session, lease: Lease) -> Judgment:
    of_lease = select(Judgment).where(Judgment.assignment_id == lease.assignment_id).order_by(Judgment.revision.desc())
    return session.scalars(of_lease.limit(1)).one()


def found(session: Session, desk: Desk, **typed: str) -> list[uuid.UUID]:
    search = HistorySearch.typed(**{"q": "", "decision": "", "flag": "", **typed})
    page = past_verdicts(session, campaign_id=desk.campaign_id, annotator_id=desk.annotator_id, page=1, search=search)
    return [verdict.assignment_id for verdict in page.verdicts]


def test_one_finds_what_one_decided_by_words_that_were_shown_and_by_decision(
    session: Session, campaign: Campaign
) -> None:
    desk, other = make_desk(session, campaign), make_desk(session, campaign)
    secret = [{"role": "system", "content": "Zebra"}, {"role": "user", "content": "Is 100% of it_true?"}]
    leases = []
    for prompt in (make_prompt(session, campaign, messages=secret), None, None, None):
        make_comparison(session, campaign, prompt=prompt, texts=("A heron.", f"Text {len(leases)}"), redundancy=2)
        leases.append(desk.take())
        if len(leases) < 4:
            desk.judge(leases[-1], ["1>2", "1=2", None][len(leases) - 1], all_bad=len(leases) == 3)
        desk.now += timedelta(minutes=1)
    desk.skip(leases[3], "No idea, sorry")
    other.judge(other.take())
    ids = [lease.assignment_id for lease in leases]
    assert found(session, desk) == ids[::-1]
    assert found(session, desk, q="HERON") == ids[::-1]
    assert found(session, desk, q='"text 1"') == [ids[1]]
    assert found(session, desk, q="heron idea") == [ids[3]]
    assert found(session, desk, q="100% it_true") == [ids[0]]
    assert found(session, desk, q="%") == [ids[0]], "a percent sign is one"
    assert found(session, desk, q="zebra") == [], "what was not shown cannot be guessed at by searching"
    by_decision = {decision: found(session, desk, decision=decision) for decision in Decision}
    assert by_decision == {
        Decision.PREFERRED: [ids[0]], Decision.TIE: [ids[1]], Decision.ALL_BAD: [ids[2]],
        Decision.SKIPPED: [ids[3]], Decision.SET_ASIDE: [],
    }  # fmt: skip
    assert found(session, desk, decision="nonsense", q="\x00") == ids[::-1]


def test_a_judgment_is_found_by_flag_opened_with_its_answers_and_changed(
    session: Session, campaign: Campaign, signed_in: SignedIn, clock: StoppedClock
) -> None:
    ask(session, campaign, EVERYTHING)
    for _ in range(2):
        version = make_comparison(session, campaign).members[0].completion.model_version
    assert version is not None
    desk = make_desk(session, campaign)
    browser = browser_of(session, desk, signed_in)
    address, key = form(browser.get(f"/campaigns/{campaign.id}/judge").text, "judgment")
    sent = {"graded": "1>2:4", "key": key["key"], **FIELDS}
    assert browser.post(address, data=sent).status_code == 303
    lease = desk.take()
    (judged,) = found(session, desk, flag="cut off")
    assert found(session, desk, flag="unsafe") == []
    clock.forward(days=3)
    history = browser.get(f"/campaigns/{campaign.id}/judgments", params={"flag": "cut off"}).text
    assert f'href="/assignments/{judged}/judgment"' in history
    page = browser.get(f"/assignments/{judged}/judgment").text
    assert version.name not in page + history
    assert version.sha256 not in page + history
    address, filled = form(page, "revision")
    expected = {**FIELDS, "rationale": "It is short.", "chosen": "1>2:4"}
    assert {name: filled.get(name) for name in expected} == expected
    assert "flag-1-1" not in filled
    changed = {**filled, "chosen": "2>1:2", "rationale": "No: it is <b>long</b>."}
    for _ in range(2):
        answer = browser.post(address, data=changed)
        assert answer.headers["location"] == f"/campaigns/{campaign.id}/judgments?said=changed#past-{judged}"
    now = in_force(session, Lease(judged, 0, []))
    assignment = session.get_one(Assignment, judged, populate_existing=True)
    first, second = assignment.shown_order
    assert (now.revision, now.ranking, now.strengths) == (2, [[second], [first]], [2]), "sent twice, recorded once"
    assert (now.rationale, now.flags) == ("No: it is <b>long</b>.", {str(first): ["cut off"]})
    assert assignment.closed_at == NOW, "it keeps its place in the history"
    assert session.scalars(select(Slot.judgment_id).where(Slot.assignment_id == judged)).one() == now.id
    assert desk.lease() == lease, "what is at the desk stays there"
    assert "No: it is &lt;b&gt;long" in browser.get(f"/assignments/{judged}/judgment").text


def test_a_ranking_is_opened_as_it_was_given_and_all_bad_stands_chosen(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    make_comparison(session, campaign, texts=("a", "b", "c"))
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    three = desk.take()
    desk.judge(three, "2>1=3")
    pair = desk.take()
    desk.judge(pair, None, all_bad=True)
    browser = browser_of(session, desk, signed_in)
    address, filled = form(browser.get(f"/assignments/{three.assignment_id}/judgment").text, "revision")
    assert filled["ranking"] == "2>1=3"
    browser.post(address, data={**filled, "ranking": "3>1>2"})
    assert in_force(session, three).ranking == [[three.shown_order[at]] for at in (2, 0, 1)]
    address, filled = form(browser.get(f"/assignments/{pair.assignment_id}/judgment").text, "revision")
    assert filled["chosen"] == "all_bad"
    browser.post(address, data=filled)
    assert (in_force(session, pair).all_bad, in_force(session, pair).ranking) == (True, None)
    browser.post(address, data={**filled, "chosen": "1=2", "key": str(uuid.uuid4())})
    assert in_force(session, pair).ranking == [sorted(pair.shown_order)]


def test_a_judgment_can_be_changed_for_as_long_as_its_campaign_says_and_a_slip_for_an_hour(
    session: Session, campaign: Campaign, signed_in: SignedIn, clock: StoppedClock
) -> None:
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    lease = desk.take()
    desk.judge(lease)
    campaign.editable_days = 2
    browser = browser_of(session, desk, signed_in)
    address = f"/assignments/{lease.assignment_id}"

    def answers() -> tuple[int, int, bool]:
        """Of looking, of sending, and whether the history offers it."""
        sent = {"chosen": "2>1", "key": str(uuid.uuid4())}
        looked, changed = browser.get(f"{address}/judgment"), browser.post(f"{address}/revision", data=sent)
        history = browser.get(f"/campaigns/{campaign.id}/judgments").text
        return looked.status_code, changed.status_code, f"{address}/judgment" in history

    assert answers() == (200, 303, True)
    clock.forward(days=2, seconds=-1)
    assert answers() == (200, 303, True)
    clock.forward(seconds=1)
    assert answers() == (409, 409, False)
    desk.now = clock()
    for late in (desk.judge, desk.undo):
        with pytest.raises(Conflict):
            late(lease)
    assert "Undo" not in browser.get(f"/campaigns/{campaign.id}/judgments").text
    campaign.editable_days = 0
    session.commit()
    desk.now = NOW + SLIP - timedelta(seconds=1)
    desk.undo(lease)
    desk.judge(lease)
    clock.now = desk.now
    assert answers() == (409, 409, False), "never means that: a slip is undone, and judged anew"


def test_what_is_closed_set_aside_skipped_or_somebody_elses_is_not_changed(
    session: Session, campaign: Campaign, signed_in: SignedIn
) -> None:
    for _ in range(3):
        make_comparison(session, campaign)
    desk, other = make_desk(session, campaign), make_desk(session, campaign)
    lease = desk.take()
    judgment_id = desk.judge(lease).judgment_id
    skipped = desk.take()
    desk.skip(skipped)
    browser = browser_of(session, desk, signed_in)

    def refused(of: Lease = lease, by: TestClient = browser) -> int:
        sent = {"chosen": "2>1", "key": str(uuid.uuid4())}
        address = f"/assignments/{of.assignment_id}"
        statuses = {
            by.get(f"{address}/judgment").status_code,
            by.post(f"{address}/revision", data=sent).status_code,
        }
        assert len(statuses) == 1
        return statuses.pop()

    assert refused(skipped) == 409
    assert refused(desk.take()) == 409, "it is on the screen and has no verdict yet"
    assert refused(lease, browser_of(session, other, signed_in)) == 409
    campaign.state = CampaignState.PAUSED
    session.commit()
    assert refused() == 409
    campaign.state = CampaignState.OPEN
    reject_judgment(session, judgment_id=judgment_id, grounds=Grounds("Skimmed."), by_id=None, now=NOW)
    session.commit()
    assert refused() == 409
    assert in_force(session, lease).revision == 1
    assert found(session, desk, decision="set_aside") == [lease.assignment_id]


@pytest.mark.parametrize(
    ("blank", "values", "filled"),
    [
        (
            '<input type="radio" name="a" value="1>2">',
            {"a": "1>2"},
            '<input type="radio" name="a" value="1>2" checked>',
        ),
        ('<input type="radio" name="a" value="1&gt;2">', {"a": "1=2"}, '<input type="radio" name="a" value="1&gt;2">'),
        ('<input name="a" required>', {"a": '">'}, '<input name="a" required value="&#34;&gt;">'),
        ('<textarea name="a"></textarea>', {"a": "</textarea>"}, '<textarea name="a">&lt;/textarea&gt;</textarea>'),
        ('<input type="hidden" name="b" value="kept">', {"a": "1"}, '<input type="hidden" name="b" value="kept">'),
    ],
)
def test_a_blank_form_is_filled_in(blank: str, values: dict[str, Any], filled: str) -> None:
    assert filled_in(Markup(blank), values) == filled  # noqa: S704
