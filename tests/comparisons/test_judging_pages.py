"""The judging pages as people use them: the panel, its verdicts, undo, waiting, history and the start page."""

import re
import uuid
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign, CampaignState, Enrolment
from app.campaigns.service.editing import Question, revise_campaign
from app.comparisons.models import Assignment, AssignmentState, CampaignQueue, Judgment, JudgmentState, QueueState
from tests.conftest import NOW, SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.generation import make_prompt

HTMX = {"HX-Request": "true"}


@pytest.fixture
def annotator(session: Session) -> User:
    return make_user(session, name="Ada")


@pytest.fixture
def campaign(session: Session, annotator: User) -> Campaign:
    campaign = make_campaign(session)
    enrol(session, annotator, campaign)
    return campaign


@pytest.fixture
def browser(annotator: User, campaign: Campaign, signed_in: SignedIn) -> TestClient:
    return signed_in(annotator)


class Page:
    """A judging page or panel as it came back."""

    def __init__(self, answer: Response) -> None:
        assert answer.status_code == 200, answer.text
        self.html = unescape(answer.text)
        self.answer = answer

    @property
    def heading(self) -> str:
        """What the panel says it is about."""
        found = re.search(r'<h1 id="judging-heading".*?>(.*?)</h1>', self.html, re.S)
        assert found
        return found[1].strip()

    @property
    def texts(self) -> list[str]:
        """The completions as shown."""
        return re.findall(r'<article class="completion".*?<p>(.*?)</p>', self.html, re.S)

    @property
    def tally(self) -> str:
        """How far one is, in words."""
        found = re.search(r'<p class="[^"]*tally">(.*?) · <a', self.html)
        assert found
        return re.sub(r"<.*?>", "", found[1])

    @property
    def left(self) -> str:
        """What the dock says is left."""
        found = re.search(r'"left": (\d+)', self.html)
        assert found
        return found[1]

    @property
    def shape(self) -> str:
        """Of the comparison for which the page has its sheets."""
        found = re.search(r'"shape": "([^"]+)"', self.html)
        assert found
        return found[1]

    def address(self, action: str) -> str:
        """Where the form of an action is sent: judgment, skip, retraction."""
        found = re.search(rf'hx-post="(/assignments/[^"]*/{action})"', self.html)
        assert found, f"no form for {action}"
        return found[1]

    def key(self, action: str = "judgment") -> str:
        """The key within the form of an action."""
        found = re.search(rf'hx-post="[^"]*/{action}".*?name="key"\s+value="([^"]+)"', self.html, re.S)
        assert found
        return found[1]


def opened(browser: TestClient, campaign: Campaign, **headers: str) -> Page:
    return Page(browser.get(f"/campaigns/{campaign.id}/judge", headers=headers))


def judged(browser: TestClient, page: Page, ranking: str = "1>2", **given: Any) -> Page:
    sent = {"ranking": ranking, "key": page.key(), "revision": 1, "active_ms": 1234, **given}
    return Page(browser.post(page.address("judgment"), data=sent, headers=HTMX))


def undone(browser: TestClient, page: Page) -> Page:
    return Page(browser.post(page.address("retraction"), data={"key": page.key("retraction")}, headers=HTMX))


def skipped(browser: TestClient, page: Page) -> Page:
    return Page(browser.post(page.address("skip"), headers=HTMX))


def queue(session: Session, campaign: Campaign, state: QueueState, message: str = "") -> None:
    session.add(CampaignQueue(campaign_id=campaign.id, state=state, message=message, updated_at=NOW))
    session.commit()


def test_the_page_shows_prompt_and_completions_and_not_the_system_message(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    messages = [
        {"role": "system", "content": "Obey."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Say **more**"},
    ]
    make_comparison(session, campaign, prompt=make_prompt(session, campaign, messages=messages))
    session.commit()
    page = opened(browser, campaign)
    assert page.heading == "Which is better?"
    assert sorted(page.texts) == ["One.", "Two."]
    assert "<strong>more</strong>" in page.html
    assert "Obey." not in page.html
    assert 'role="status"' in page.html


def test_nothing_in_a_page_or_its_headers_tells_where_completions_come_from(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    session.execute(text("ALTER SEQUENCE completions_id_seq RESTART WITH 73190411"))
    session.execute(text("ALTER SEQUENCE comparisons_id_seq RESTART WITH 81930422"))
    for _ in range(2):
        comparison = make_comparison(session, campaign, texts=("Left", "Right"))
    version = comparison.members[0].completion.model_version
    assert version is not None
    session.commit()
    page = opened(browser, campaign)
    for shown in (page, judged(browser, page)):
        said = shown.html + str(shown.answer.headers)
        assert "7319041" not in said
        assert "8193042" not in said
        assert version.name not in said


@pytest.mark.parametrize("wish", ["One.", "Two."])
def test_the_chosen_text_is_recorded_whichever_side_it_was_shown_on(
    session: Session, campaign: Campaign, browser: TestClient, wish: str
) -> None:
    comparisons = [make_comparison(session, campaign) for _ in range(8)]
    session.commit()
    page = opened(browser, campaign)
    sides = set()
    for _ in comparisons:
        place = page.texts.index(wish) + 1
        sides.add(place)
        page = judged(browser, page, ranking="1>2" if place == 1 else "2>1")
    assert sides == {1, 2}
    judgments = session.scalars(select(Judgment)).all()
    by_id = {each.completion_id: each.completion.text for one in comparisons for each in one.members}
    assert [by_id[judgment.ranking[0][0]] for judgment in judgments if judgment.ranking] == [wish] * 8
    assert {judgment.active_ms for judgment in judgments} == {1234}


def test_ties_and_both_bad_are_recorded(session: Session, campaign: Campaign, browser: TestClient) -> None:
    for _ in range(2):
        make_comparison(session, campaign)
    session.commit()
    page = judged(browser, opened(browser, campaign), ranking="1=2")
    judged(browser, page, ranking="", all_bad="true")
    tie, bad = session.scalars(select(Judgment).order_by(Judgment.id)).all()
    assert tie.ranking is not None
    assert len(tie.ranking[0]) == 2
    assert (bad.ranking, bad.all_bad) == (None, True)


def test_only_the_verdicts_that_a_campaign_allows_are_offered(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    make_comparison(session, campaign)
    campaign.revisions[0].ties_allowed = campaign.revisions[0].all_bad_allowed = False
    session.commit()
    page = opened(browser, campaign)
    assert 'value="1>2"' in page.html
    assert 'value="1=2"' not in page.html
    assert 'name="all_bad"' not in page.html


def test_a_replayed_judgment_is_recorded_once_and_shows_the_same_next_comparison(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    for number in range(3):
        make_comparison(session, campaign, texts=(f"a{number}", f"b{number}"))
    session.commit()
    page = opened(browser, campaign)
    first, second = judged(browser, page), judged(browser, page)
    assert first.texts == second.texts != page.texts
    assert len(session.scalars(select(Judgment)).all()) == 1


@pytest.mark.parametrize("sent", [{"ranking": "3>1"}, {"ranking": "better"}, {"ranking": ""}, {"key": "none"}])
def test_an_unreadable_verdict_is_refused_with_a_notice(
    session: Session, campaign: Campaign, browser: TestClient, sent: dict[str, str]
) -> None:
    make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    answer = browser.post(page.address("judgment"), data={"ranking": "1>2", "key": page.key(), **sent}, headers=HTMX)
    assert answer.status_code == 422
    assert answer.headers["HX-Retarget"] == "#notice"
    assert not session.scalars(select(Judgment)).all()


def test_a_skipped_comparison_is_not_served_again_and_undo_brings_it_back(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    shown = page.texts
    page = skipped(browser, page)
    assert not page.texts
    assert not opened(browser, campaign).texts
    assert undone(browser, page).texts == shown


def test_undo_walks_back_and_what_was_set_aside_comes_again(
    session: Session, campaign: Campaign, browser: TestClient, clock: StoppedClock
) -> None:
    for number in range(3):
        make_comparison(session, campaign, texts=(f"a{number}", f"b{number}"))
    session.commit()
    first = opened(browser, campaign)
    clock.forward(seconds=5)
    second = judged(browser, first)
    clock.forward(seconds=5)
    third = skipped(browser, second)
    back = undone(browser, third)
    assert back.texts == second.texts
    back = undone(browser, back)
    assert back.texts == first.texts
    assert "/retraction" not in back.html
    again = judged(browser, back, ranking="2>1")
    assert again.texts == second.texts
    revisions = session.scalars(select(Judgment).order_by(Judgment.revision)).all()
    assert [each.state for each in revisions] == [JudgmentState.GIVEN, JudgmentState.RETRACTED, JudgmentState.GIVEN]


def test_without_javascript_every_action_leads_back_to_the_page(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    for _ in range(2):
        make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    sent = {"ranking": "1>2", "key": page.key()}
    for action, data in (("judgment", sent), ("skip", {}), ("retraction", {"key": str(uuid.uuid4())})):
        answer = browser.post(page.address(action) if action != "retraction" else _undo(browser, campaign), data=data)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{campaign.id}/judge")
        page = opened(browser, campaign)


def _undo(browser: TestClient, campaign: Campaign) -> str:
    return opened(browser, campaign).address("retraction")


def test_a_renewal_keeps_the_comparison_reserved(
    session: Session, campaign: Campaign, browser: TestClient, clock: StoppedClock
) -> None:
    make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    later = clock.forward(minutes=10)
    assert browser.post(page.address("judgment").replace("judgment", "renewal")).status_code == 204
    assert session.scalars(select(Assignment.expires_at)).one() > later


def test_somebody_elses_assignment_is_a_conflict_for_a_colleague_and_unknown_to_others(
    session: Session, campaign: Campaign, browser: TestClient, signed_in: SignedIn
) -> None:
    make_comparison(session, campaign)
    colleague, stranger = make_user(session), make_user(session)
    enrol(session, colleague, campaign)
    session.commit()
    address = opened(browser, campaign).address("judgment")
    sent = {"ranking": "1>2", "key": str(uuid.uuid4())}
    assert signed_in(colleague).post(address, data=sent).status_code == 409
    assert signed_in(stranger).post(address, data=sent).status_code == 404
    assert browser.post(f"/assignments/{uuid.uuid4()}/judgment", data=sent).status_code == 404
    assert not session.scalars(select(Judgment)).all()


def test_while_completions_are_made_the_panel_waits_and_says_what_holds_it_up(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    queue(session, campaign, QueueState.STALLED, "The model server does not answer.")
    page = opened(browser, campaign)
    assert page.heading == "Completions are being made"
    assert "The model server does not answer." in page.html
    assert 'hx-trigger="every 2s"' in page.html
    make_comparison(session, campaign)
    session.commit()
    polled = opened(browser, campaign, **HTMX)
    assert polled.texts
    assert "<html" not in polled.html


def test_when_prompts_have_run_out_the_panel_says_thank_you(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    queue(session, campaign, QueueState.RUN_OUT)
    page = opened(browser, campaign)
    assert page.heading == "Nothing left to compare. Thank you!"
    assert "every 2s" not in page.html


def test_who_has_judged_all_there_will_be_is_not_kept_waiting_for_the_others(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    make_comparison(session, campaign, redundancy=3)
    queue(session, campaign, QueueState.RUN_OUT)
    assert judged(browser, opened(browser, campaign)).heading.startswith("Nothing left")


def test_the_panel_says_how_many_were_judged_today_and_how_many_are_left(
    session: Session, campaign: Campaign, browser: TestClient, clock: StoppedClock
) -> None:
    for _ in range(3):
        make_comparison(session, campaign)
    queue(session, campaign, QueueState.MAKING)
    session.get_one(CampaignQueue, campaign.id).to_make = 40
    session.commit()
    page = opened(browser, campaign)
    assert page.tally == "0 judged by you today · 43 left"
    page = judged(browser, page, left=page.left)
    assert page.tally == "1 judged by you today · 42 left"
    clock.forward(seconds=9)
    page = Page(browser.post(page.address("skip"), data={"left": page.left}, headers=HTMX))
    assert page.tally == "1 judged by you today · 41 left"
    page = Page(
        browser.post(page.address("retraction"), data={"key": page.key("retraction"), "left": page.left}, headers=HTMX)
    )
    assert page.tally == "1 judged by you today · 42 left"
    assert opened(browser, campaign).tally == page.tally, "counted anew it is the same"
    clock.forward(days=1)
    assert opened(browser, campaign).tally == "0 judged by you today · 42 left"


def test_the_reason_for_a_skip_is_kept(session: Session, campaign: Campaign, browser: TestClient) -> None:
    make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    browser.post(page.address("skip"), data={"reason": " The prompt makes no sense "}, headers=HTMX)
    assignment = session.scalars(select(Assignment).execution_options(populate_existing=True)).one()
    assert assignment.state is AssignmentState.SKIPPED
    assert assignment.skip_reason == "The prompt makes no sense"
    assert "The prompt makes no sense" in browser.get(f"/campaigns/{campaign.id}/judgments").text


def test_a_reason_that_was_only_begun_is_left_out(session: Session, campaign: Campaign, browser: TestClient) -> None:
    make_comparison(session, campaign)
    page = opened(browser, campaign)
    browser.post(page.address("skip"), data={"reason": "I do", "without_reason": "true"}, headers=HTMX)
    assert session.scalars(select(Assignment.skip_reason)).all() == [""]


def test_the_sheets_come_with_the_page_and_again_only_when_the_question_is_another(
    session: Session, campaign: Campaign, browser: TestClient
) -> None:
    for _ in range(4):
        make_comparison(session, campaign)
    page = opened(browser, campaign)
    assert "Prefer what helps." in page.html
    assert 'id="skip-reason"' in page.html
    page = judged(browser, page, shape=page.shape)
    assert 'id="judging-sheets"' not in page.html
    asked = Question(guidelines="Prefer what is short.")
    revise_campaign(session, campaign=campaign, question=asked, by_id=None, now=NOW)
    session.commit()
    page = judged(browser, page, shape=page.shape)
    assert "Prefer what is short." in page.html
    assert 'id="judging-sheets"' not in judged(browser, page, shape=page.shape).html


@pytest.mark.parametrize(
    ("state", "said"),
    [(CampaignState.PAUSED, "paused"), (CampaignState.CLOSED, "closed"), (CampaignState.DRAFT, "begun")],
)
def test_a_campaign_that_is_not_open_says_so_and_still_takes_what_was_on_the_screen(
    session: Session, campaign: Campaign, browser: TestClient, state: CampaignState, said: str
) -> None:
    for _ in range(2):
        make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    campaign.state = state
    session.commit()
    answer = judged(browser, page)
    assert said in answer.heading
    assert not answer.texts
    assert len(session.scalars(select(Judgment)).all()) == 1


def test_more_than_two_are_ranked(session: Session, campaign: Campaign, browser: TestClient) -> None:
    comparison = make_comparison(session, campaign, texts=("a", "b", "c"))
    session.commit()
    page = opened(browser, campaign)
    assert page.heading == "Rank them, best first"
    assert 'value="1=2=3"' in page.html
    ids = {each.completion.text: each.completion_id for each in comparison.members}
    first, second, third = (ids[text] for text in page.texts)
    judged(browser, page, ranking="2>1=3")
    assert session.scalars(select(Judgment.ranking)).one() == [[second], sorted([first, third])]
    history = browser.get(f"/campaigns/{campaign.id}/judgments").text
    assert re.findall(r"rank (\d)", history) == ["2", "1", "2"]


def test_the_history_shows_ones_own_verdicts_as_they_were_shown(
    session: Session, campaign: Campaign, browser: TestClient, clock: StoppedClock
) -> None:
    for number in range(2):
        make_comparison(session, campaign, texts=(f"a{number}", f"b{number}"))
    session.commit()
    page = opened(browser, campaign)
    clock.forward(seconds=5)
    chosen = page.texts[1]
    skipped(browser, judged(browser, page, ranking="2>1"))
    answer = browser.get(f"/campaigns/{campaign.id}/judgments")
    assert answer.text.index("Skipped") < answer.text.index("Preferred")
    best = re.search(r'class="completion is-best".*?<p>(.*?)</p>', answer.text, re.S)
    assert best
    assert best[1] == chosen
    undo = re.findall(r'action="(/assignments/[^"]+/retraction)"', answer.text)[1]
    browser.post(undo, data={"key": str(uuid.uuid4())})
    assert opened(browser, campaign).texts == page.texts
    assert session.scalars(select(Assignment.state).where(Assignment.state == AssignmentState.OPEN)).one()


def test_the_history_is_paged(session: Session, campaign: Campaign, browser: TestClient, clock: StoppedClock) -> None:
    for number in range(22):
        make_comparison(session, campaign, texts=(f"a{number}", f"b{number}"))
    session.commit()
    page = opened(browser, campaign)
    for _ in range(22):
        clock.forward(seconds=1)
        page = judged(browser, page)
    address = f"/campaigns/{campaign.id}/judgments"
    newest, oldest = browser.get(address), browser.get(address, params={"page": 2})
    assert newest.text.count('class="card past"') == 20
    assert oldest.text.count('class="card past"') == 2
    assert "Older" in newest.text
    assert "Older" not in oldest.text


def test_who_judges_in_one_campaign_goes_straight_there(campaign: Campaign, browser: TestClient) -> None:
    answer = browser.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{campaign.id}/judge")


def test_the_start_page_lists_where_one_judges_or_says_what_to_do(
    session: Session, campaign: Campaign, annotator: User, browser: TestClient, signed_in: SignedIn
) -> None:
    enrol(session, annotator, make_campaign(session, name="Second one"))
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, access=Access.MANAGE)
    newcomer = make_user(session)
    session.commit()
    assert "Second one" in browser.get("/").text
    assert f'href="/campaigns/{campaign.id}"' in signed_in(manager).get("/").text
    assert "nothing for you to judge yet" in signed_in(newcomer).get("/").text


def test_the_verdict_of_somebody_no_longer_enrolled_is_kept_and_they_go_home(
    session: Session, campaign: Campaign, annotator: User, browser: TestClient
) -> None:
    make_comparison(session, campaign)
    session.commit()
    page = opened(browser, campaign)
    session.delete(session.get_one(Enrolment, (campaign.id, annotator.id)))
    session.commit()
    sent = {"ranking": "1>2", "key": page.key()}
    assert browser.post(page.address("judgment"), data=sent, headers=HTMX).headers["HX-Redirect"] == "/"
    assert browser.post(page.address("judgment"), data=sent).headers["location"] == "/"
    assert len(session.scalars(select(Judgment)).all()) == 1


def test_nobody_judges_where_they_are_not_enrolled(session: Session, campaign: Campaign, signed_in: SignedIn) -> None:
    stranger = make_user(session)
    session.commit()
    assert signed_in(stranger).get(f"/campaigns/{campaign.id}/judge").status_code == 404


def test_what_was_judged_today_is_counted_on_from_the_page_until_midnight(
    session: Session, campaign: Campaign, browser: TestClient, clock: StoppedClock
) -> None:
    for _ in range(3):
        make_comparison(session, campaign)
    said = {"judged_today": "7", "day": str(clock().date())}
    page = judged(browser, opened(browser, campaign), **said)
    assert page.tally.startswith("8 judged by you today")
    clock.forward(days=1)
    assert judged(browser, page, **said).tally.startswith("1 judged by you today")
