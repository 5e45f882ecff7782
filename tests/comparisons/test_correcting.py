"""Writing a better one after the verdict: on the page, in the service, and what becomes of it."""

import re
import uuid
from html import unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign, CampaignRevision, CampaignState
from app.comparisons.models import Comparison, ComparisonKind, Demonstration
from app.comparisons.service.correcting import (
    LONGEST_WRITTEN,
    places_to_start_from,
    present_correction,
    save_correction,
)
from app.comparisons.service.editing import change_judgment
from app.comparisons.service.erasing import erase_judgments
from app.comparisons.service.judging import Verdict
from app.comparisons.service.leasing import Lease
from app.comparisons.service.rejecting import Grounds, reject_judgment
from app.errors import Conflict, Invalid
from app.generation.models import Completion, CompletionSource
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import Desk, make_desk


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session)
    ask_for_corrections(session, campaign)
    return campaign


def ask_for_corrections(session: Session, campaign: Campaign, *, on: bool = True) -> None:
    scales: dict[str, Any] = {"corrections": True} if on else {}
    session.execute(update(CampaignRevision).values(scales=scales).where(CampaignRevision.campaign_id == campaign.id))


@pytest.fixture
def desk(session: Session, campaign: Campaign) -> Desk:
    make_comparison(session, campaign)
    return make_desk(session, campaign)


def judged(desk: Desk, best: str = "One.") -> Lease:
    """The next comparison, judged in favour of a text."""
    lease = desk.take()
    first = desk.session.get_one(Completion, lease.shown_order[0])
    desk.judge(lease, "1>2" if first.text == best else "2>1")
    return lease


def save(
    desk: Desk, lease: Lease, text: str, *, start: int | None = None, key: uuid.UUID | None = None
) -> Demonstration:
    held = desk.hold(lease)
    start = start or present_correction(desk.session, assignment=held).start
    return save_correction(desk.session, assignment=held, start=start, text=text, key=key or uuid.uuid4(), now=desk.now)


def saved(session: Session) -> list[Demonstration]:
    return list(session.scalars(select(Demonstration).order_by(Demonstration.id)))


def test_a_correction_starts_from_the_better_one_and_becomes_a_demonstration_of_its_author(
    session: Session, desk: Desk
) -> None:
    lease = judged(desk, "Two.")
    page = present_correction(session, assignment=desk.hold(lease))
    assert (page.original, page.text, len(page.starts)) == ("Two.", "Two.", 1)
    kept = save(desk, lease, "  Two, and\r\nmore. ")
    written = session.get_one(Completion, kept.completion_id)
    assert (written.text, written.source, written.author_id) == (
        "Two, and\nmore.",
        CompletionSource.PERSON,
        desk.annotator_id,
    )
    assert kept.corrects_id is not None
    assert session.get_one(Completion, kept.corrects_id).text == "Two."
    assert (kept.number, kept.author_id, kept.prompt_id) == (1, desk.annotator_id, written.prompt_id)
    assert kept.judgment_id is not None


def test_saving_again_makes_the_next_number_and_keeps_the_one_before(session: Session, desk: Desk) -> None:
    lease = judged(desk)
    save(desk, lease, "Better.")
    assert present_correction(session, assignment=desk.hold(lease)).text == "Better."
    save(desk, lease, "Best.")
    assert [(each.number, session.get_one(Completion, each.completion_id).text) for each in saved(session)] == [
        (1, "Better."),
        (2, "Best."),
    ]
    assert len({each.judgment_id for each in saved(session)}) == 1


@pytest.mark.parametrize(("changed_to", "goes_along"), [("same", True), ("tie", True), ("other", False)])
def test_a_judgment_changed_in_the_history_takes_its_correction_along_while_what_it_corrects_is_among_the_best(
    session: Session, desk: Desk, changed_to: str, *, goes_along: bool
) -> None:
    lease = judged(desk)
    save(desk, lease, "Better.")
    better = saved(session)[0].corrects_id
    place = lease.shown_order.index(better or 0) + 1
    ranking = {"same": f"{place}>{3 - place}", "tie": "1=2", "other": f"{3 - place}>{place}"}[changed_to]
    key = uuid.uuid4()
    for _ in range(2):  # a replay carries nothing over once more
        changed = change_judgment(
            session, assignment=desk.hold(lease), verdict=Verdict(ranking=ranking), key=key, now=desk.now
        )
    of_the_new = [each for each in saved(session) if each.judgment_id == changed.judgment_id]
    texts = [session.get_one(Completion, each.completion_id).text for each in of_the_new]
    assert texts == (["Better."] if goes_along else [])
    assert [each.corrects_id for each in of_the_new] == ([better] if goes_along else [])
    started_from = present_correction(session, assignment=desk.hold(lease), start=place)
    assert started_from.text == ("Better." if goes_along else "Two.")


def test_a_replayed_correction_is_saved_once(session: Session, desk: Desk) -> None:
    lease, key = judged(desk), uuid.uuid4()
    first = save(desk, lease, "Better.", key=key)
    assert save(desk, lease, "Better.", key=key) is first
    assert len(saved(session)) == 1


@pytest.mark.parametrize("text", ["", " \n ", "One.", " One. ", "x" * (LONGEST_WRITTEN + 1)])
def test_a_text_that_says_or_changes_nothing_is_refused(session: Session, desk: Desk, text: str) -> None:
    lease = judged(desk)
    with pytest.raises(Invalid):
        save(desk, lease, text)
    assert saved(session) == []


def test_only_the_better_one_is_corrected_and_any_where_none_is(session: Session, desk: Desk) -> None:
    lease = judged(desk)
    worse = 3 - present_correction(session, assignment=desk.hold(lease)).start
    with pytest.raises(Invalid):
        save(desk, lease, "Better.", start=worse)
    assert places_to_start_from([[7], [5, 6]], [5, 6, 7]) == [3]
    assert places_to_start_from([[7, 5], [6]], [5, 6, 7]) == [1, 3]
    assert places_to_start_from(None, [5, 6]) == [1, 2]


def test_what_is_not_judged_or_not_asked_for_or_set_aside_cannot_be_corrected(
    session: Session, campaign: Campaign, desk: Desk
) -> None:
    lease = desk.take()
    with pytest.raises(Conflict):
        save(desk, lease, "Better.", start=1)
    recorded = desk.judge(lease)
    ask_for_corrections(session, campaign, on=False)
    with pytest.raises(Conflict):
        save(desk, lease, "Better.", start=1)
    ask_for_corrections(session, campaign)
    grounds = Grounds.of("Too quick.", serves_again=False)
    reject_judgment(session, judgment_id=recorded.judgment_id, grounds=grounds, by_id=None, now=NOW)
    with pytest.raises(Conflict):
        save(desk, lease, "Better.", start=1)
    assert saved(session) == []


def test_after_another_verdict_what_was_written_is_there_to_start_from(session: Session, desk: Desk) -> None:
    lease = judged(desk)
    save(desk, lease, "Better.")
    desk.undo(lease)
    with pytest.raises(Conflict):
        save(desk, lease, "Better.", start=1)
    desk.judge(lease, "1=2")
    page = present_correction(session, assignment=desk.hold(lease))
    assert (page.text, page.original, page.starts) == ("Better.", "One.", [1, 2])
    other = present_correction(session, assignment=desk.hold(lease), start=3 - page.start)
    assert (other.text, other.original) == ("Two.", "Two.")
    save(desk, lease, "Better.")
    assert [each.number for each in saved(session)] == [1, 1], "each of its own judgment"


def test_a_correction_is_erased_with_its_author(session: Session, desk: Desk) -> None:
    kept = save(desk, judged(desk), "Better.")
    completion_id = kept.completion_id
    erase_judgments(session, annotator_id=desk.annotator_id)
    assert saved(session) == []
    assert session.get_one(Completion, completion_id).text == ""


# --- The pages


@pytest.fixture
def ann(session: Session, campaign: Campaign) -> User:
    ann = make_user(session, name="Ann")
    enrol(session, ann, campaign)
    for number in range(2):
        make_comparison(session, campaign, texts=(f"Left {number}.", f"Right {number}."))
    session.commit()
    return ann


@pytest.fixture
def browser(ann: User, signed_in: SignedIn) -> TestClient:
    return signed_in(ann)


def panel(browser: TestClient, campaign: Campaign) -> str:
    return unescape(browser.get(f"/campaigns/{campaign.id}/judge").text)


def judge(browser: TestClient, campaign: Campaign) -> str:
    """Judge what is at the desk; the address of its correction."""
    found = re.search(r"/assignments/([0-9a-f-]{36})/judgment", panel(browser, campaign))
    assert found
    done = browser.post(f"/assignments/{found[1]}/judgment", data={"ranking": "1>2", "key": str(uuid.uuid4())})
    assert done.status_code == 303
    return f"/assignments/{found[1]}/correction"


def sent(browser: TestClient, address: str, text: str, **headers: str) -> Response:
    page = browser.get(address).text
    key, start = (re.search(rf'name="{name}" value="([^"]+)"', page) for name in ("key", "start"))
    assert key
    assert start
    return browser.post(address, data={"key": key[1], "start": start[1], "text": text}, headers=headers)


def test_the_dock_leads_to_the_correction_of_what_was_judged_last(browser: TestClient, campaign: Campaign) -> None:
    assert 'data-key="w"' not in panel(browser, campaign), "nothing is judged yet"
    address = judge(browser, campaign)
    assert f'href="{address}" data-key="w"' in panel(browser, campaign)
    answer = sent(browser, address, "A better one.")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{campaign.id}/judge")
    by_script = sent(browser, address, "The best.", **{"HX-Request": "true"})
    assert by_script.headers["HX-Redirect"] == f"/campaigns/{campaign.id}/judge"


def test_without_the_switch_no_page_speaks_of_corrections(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    ask_for_corrections(session, campaign, on=False)
    session.commit()
    address = judge(browser, campaign)
    assert "correction" not in panel(browser, campaign)
    assert "correction" not in browser.get(f"/campaigns/{campaign.id}/judgments").text
    assert browser.get(address).status_code == 409


def test_what_changes_nothing_is_shown_again_with_what_was_typed(browser: TestClient, campaign: Campaign) -> None:
    address = judge(browser, campaign)
    answer = sent(browser, address, "   ")
    assert answer.status_code == 422
    assert "Write something first." in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_the_page_holds_no_trace_of_who_wrote_what(session: Session, browser: TestClient, campaign: Campaign) -> None:
    address = judge(browser, campaign)
    page = browser.get(address)
    versions = {each.model_version.name for each in session.scalars(select(Completion)) if each.model_version}
    assert versions
    said = page.text + str(page.headers)
    assert not [name for name in versions if name in said]


def test_a_late_correction_is_taken_from_who_judges_no_more_or_where_the_campaign_stopped(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    address = judge(browser, campaign)
    session.get_one(Campaign, campaign.id).state = CampaignState.PAUSED
    session.commit()
    assert sent(browser, address, "Better.").status_code == 303
    assert len(saved(session)) == 1


def test_the_history_shows_what_was_written_and_leads_to_it(browser: TestClient, campaign: Campaign) -> None:
    address = judge(browser, campaign)
    history = f"/campaigns/{campaign.id}/judgments"
    assert f'href="{address}"' in browser.get(history).text
    sent(browser, address, "A **better** one.")
    page = browser.get(history).text
    assert "<strong>better</strong>" in page
    assert f'href="{address}"' in page


def test_a_manager_sees_a_correction_with_what_it_corrects(
    session: Session, browser: TestClient, campaign: Campaign, signed_in: SignedIn
) -> None:
    address = judge(browser, campaign)
    sent(browser, address, "Better.")
    sent(browser, address, "Best of all.")
    mo = make_user(session, Role.MANAGER, name="Mo")
    enrol(session, mo, campaign, judges=False, access=Access.MANAGE)
    session.commit()
    comparison_id = session.scalars(select(Comparison.id).where(Comparison.kind == ComparisonKind.ORDINARY)).first()
    manager = signed_in(mo)
    page = unescape(manager.get(f"/comparisons/{comparison_id}").text)
    assert "Best of all." in page
    assert "Better." in page
    assert re.search(r"corrects completion \d", page)
    assert "corrected" in manager.get(f"/comparisons?campaign={campaign.id}").text
    assert re.search(r"Demonstrations</dt>\s*<dd>1</dd>", manager.get(f"/campaigns/{campaign.id}").text)
