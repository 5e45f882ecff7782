"""Campaigns in which people write the ideal completion: the pages, the services, a race, and what is frozen of it."""

import json
import re
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role, User
from app.background import Workplace
from app.campaigns.models import Access, Campaign, CampaignKind, CampaignState
from app.campaigns.service import obstacles_to_opening
from app.comparisons.models import (
    Assignment,
    AssignmentState,
    Comparison,
    Demonstration,
    Judgment,
    JudgmentState,
    Slot,
)
from app.comparisons.service.correcting import submit_demonstration
from app.comparisons.service.desk import hold_assignment, hold_desk
from app.comparisons.service.judging import Verdict, skip
from app.comparisons.service.leasing import lease_next
from app.comparisons.service.queueing import fill_queue, hand_out_prompts
from app.comparisons.service.rejecting import Grounds, reject_judgment
from app.database import make_engine
from app.datasets.house import parse_line
from app.datasets.service.counting import judgment_counts
from app.datasets.service.house_export import export_house_jsonl
from app.generation.models import Completion, CompletionSource, PromptState
from app.pseudonyms import Pseudonyms
from app.settings import Settings
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.datasets import house, import_lines, make_snapshot
from tests.factories.generation import make_prompt

LASTS = timedelta(minutes=30)


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return demonstrations_wanted(session)


def demonstrations_wanted(session: Session, *, redundancy: int = 1, prompts: int = 2) -> Campaign:
    campaign = make_campaign(session, redundancy=redundancy)
    campaign.kind, campaign.alias = CampaignKind.DEMONSTRATION, None
    for number in range(prompts):
        make_prompt(session, campaign, f"Explain number {number}.")
    return campaign


@pytest.fixture
def ann(session: Session, campaign: Campaign) -> User:
    ann = make_user(session, name="Ann")
    enrol(session, ann, campaign)
    session.commit()
    return ann


@pytest.fixture
def browser(ann: User, signed_in: SignedIn) -> TestClient:
    return signed_in(ann)


def opened(browser: TestClient, campaign: Campaign) -> str:
    answer = browser.get(f"/campaigns/{campaign.id}/judge", follow_redirects=True)
    assert answer.status_code == 200
    assert answer.url.path == f"/campaigns/{campaign.id}/write"
    return unescape(answer.text)


def assignment_in(page: str) -> str:
    found = re.search(r"/assignments/([0-9a-f-]{36})/demonstration", page)
    assert found, page
    return found[1]


def submit(browser: TestClient, page: str, said: str, **given: str) -> Response:
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key
    data = {"key": key[1], "text": said, **given}
    return browser.post(f"/assignments/{assignment_in(page)}/demonstration", data=data)


def test_prompts_are_written_for_one_by_one_until_none_is_left(
    session: Session, browser: TestClient, campaign: Campaign, ann: User
) -> None:
    for number in range(2):
        page = opened(browser, campaign)
        assert f"Explain number {number}." in page
        assert f"<strong>{number}</strong> written by you today · {2 - number} left" in page
        answer = submit(browser, page, f"Text {number}.")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/campaigns/{campaign.id}/judge")
    assert "Nothing left to write" in opened(browser, campaign)
    rows = session.execute(
        select(Demonstration, Completion).join(Completion, Demonstration.completion_id == Completion.id)
    ).all()
    assert [row.Completion.text for row in rows] == ["Text 0.", "Text 1."]
    assert {(row.Completion.source, row.Demonstration.author_id, row.Demonstration.corrects_id) for row in rows} == {
        (CompletionSource.PERSON, ann.id, None)
    }
    make_prompt(session, campaign, "Explain one more.")
    session.commit()
    assert "Explain one more." in opened(browser, campaign), "prompts that came since are handed out"


def test_a_submission_sent_twice_is_recorded_once(session: Session, browser: TestClient, campaign: Campaign) -> None:
    page = opened(browser, campaign)
    for _ in range(2):
        assert submit(browser, page, "Text.").status_code == 303
    assert session.scalar(select(func.count()).select_from(Demonstration)) == 1
    assert session.scalar(select(func.count()).select_from(Judgment)) == 1


def test_what_says_nothing_is_shown_again_and_takes_nothing_off_the_desk(
    browser: TestClient, campaign: Campaign
) -> None:
    page = opened(browser, campaign)
    answer = submit(browser, page, " ")
    assert answer.status_code == 422
    assert "Write something first." in answer.text
    assert assignment_in(answer.text) == assignment_in(page)


def test_nothing_is_compared_here_and_nothing_written_where_one_compares(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    assignment = assignment_in(opened(browser, campaign))
    for verdict in ({"ranking": "1>2"}, {"all_bad": "true"}):
        data = {**verdict, "key": str(uuid.uuid4())}
        assert browser.post(f"/assignments/{assignment}/judgment", data=data).status_code == 422
    assert browser.get(f"/assignments/{assignment}/correction").status_code == 409
    assert session.scalar(select(func.count()).select_from(Judgment)) == 0


def test_a_prompt_is_skipped_with_a_reason_and_goes_to_somebody_else(
    session: Session, browser: TestClient, campaign: Campaign, signed_in: SignedIn
) -> None:
    page = opened(browser, campaign)
    answer = browser.post(f"/assignments/{assignment_in(page)}/skip", data={"reason": "Not my field."})
    assert answer.status_code == 303
    assert "Explain number 1." in opened(browser, campaign)
    assert session.get_one(Assignment, uuid.UUID(assignment_in(page))).skip_reason == "Not my field."
    bo = make_user(session, name="Bo")
    enrol(session, bo, campaign)
    session.commit()
    assert "Explain number 0." in opened(signed_in(bo), campaign)


def test_undo_brings_the_prompt_back_with_what_was_written_and_the_next_text_takes_its_place(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    browser: TestClient,
    campaign: Campaign,
) -> None:
    page = opened(browser, campaign)
    assignment = assignment_in(page)
    submit(browser, page, "First thoughts.")
    history = unescape(browser.get(f"/campaigns/{campaign.id}/judgments").text)
    assert "First thoughts." in history
    assert "Undo and write again" in history
    assert "Tie" not in history
    undone = browser.post(f"/assignments/{assignment}/retraction", data={"key": str(uuid.uuid4())})
    assert undone.status_code == 303
    page = opened(browser, campaign)
    assert assignment_in(page) == assignment
    assert "First thoughts.</textarea>" in page
    submit(browser, page, "Second thoughts.")
    states = session.scalars(select(Judgment.state).order_by(Judgment.id)).all()
    assert states == [JudgmentState.GIVEN, JudgmentState.RETRACTED, JudgmentState.GIVEN]
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    rows = pq.read_table(Path(snapshot.path or "") / "demonstrations.parquet").to_pylist()
    assert [row["completion"][0]["content"] for row in rows] == ["Second thoughts."]


def test_what_a_manager_sets_aside_is_out_and_its_prompt_is_handed_out_again(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    browser: TestClient,
    campaign: Campaign,
    signed_in: SignedIn,
) -> None:
    submit(browser, opened(browser, campaign), "Nonsense.")
    judgment_id = session.scalars(select(Judgment.id)).one()
    mo = make_user(session, Role.MANAGER, name="Mo")
    enrol(session, mo, campaign, judges=False, access=Access.MANAGE)
    session.commit()
    manager = signed_in(mo)
    comparison_id = session.scalars(select(Judgment.comparison_id)).one()
    assert "Nonsense." in manager.get(f"/comparisons/{comparison_id}").text
    assert "written" in manager.get(f"/comparisons?campaign={campaign.id}").text
    grounds = Grounds.of("This says nothing.", serves_again=False)
    reject_judgment(session, judgment_id=judgment_id, grounds=grounds, by_id=mo.id, now=NOW)
    session.commit()
    assert session.scalar(select(func.count()).where(Slot.judgment_id.is_not(None))) == 0
    assert "This says nothing." in browser.get(f"/campaigns/{campaign.id}/judgments").text
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    assert snapshot.counts is not None
    assert snapshot.counts["demonstrations"] == 0


def test_demonstrations_are_frozen_and_exported_and_make_no_pairs_judgments_or_training_runs(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    browser: TestClient,
    campaign: Campaign,
) -> None:
    submit(browser, opened(browser, campaign), "Like this.")
    counts = judgment_counts(session, line_id=campaign.line_id)
    assert (counts.judgments, counts.ties, counts.pairs, counts.since_last, counts.demonstrations) == (0, 0, 0, 0, 1)
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, corrections_as_chosen=True)
    folder = Path(snapshot.path or "")
    (row,) = pq.read_table(folder / "demonstrations.parquet").to_pylist()
    assert (row["source"], row["corrects"], row["corrects_id"]) == ("written", None, None)
    for name in ("judgments", "rankings.train", "rankings.eval"):
        assert pq.read_table(folder / f"{name}.parquet").num_rows == 0
    lines = [
        json.loads(line)
        for line in export_house_jsonl(session, campaign_id=campaign.id, as_of=NOW, pseudonyms=Pseudonyms(b"secret"))
    ]
    (written,) = [judgment for line in lines for judgment in line.get("judgments", [])]
    assert written["demonstration"]["text"] == "Like this."
    assert "ranking" not in written


def test_a_campaign_is_created_for_demonstrations_and_opens_as_soon_as_it_has_prompts(
    session: Session, signed_in: SignedIn
) -> None:
    manager = signed_in(make_user(session, Role.MANAGER))
    page = manager.get("/campaigns/new").text
    assert "write the ideal completion themselves" in page
    numbers: dict[str, Any] = {"comparisons_per_prompt": 3, "redundancy": 2, "samples_drawn": 4, "max_tokens": 64}
    form = {"name": "Shown how", "kind": "demonstration", "source": "none", "temperature": 0.9, "top_p": 0.9, **numbers}
    answer = manager.post("/campaigns", data=form)
    assert answer.status_code == 303, re.findall(r"field-error[^<]*<?|notice error.*", answer.text)
    campaign = session.scalars(select(Campaign).where(Campaign.name == "Shown how")).one()
    assert (campaign.kind, campaign.redundancy, campaign.comparisons_per_prompt) == (CampaignKind.DEMONSTRATION, 2, 1)
    assert obstacles_to_opening(session, campaign)
    make_prompt(session, campaign)
    assert obstacles_to_opening(session, campaign) == []


def test_the_worker_hands_out_each_active_prompt_once(
    session: Session, session_factory: sessionmaker[Session], settings: Settings, campaign: Campaign
) -> None:
    make_prompt(session, campaign, "Retired.", state=PromptState.RETIRED)
    session.commit()
    place = Workplace(settings, session_factory, lambda: NOW)
    for _ in range(2):
        fill_queue(place, campaign_id=campaign.id)
    assert session.scalar(select(func.count()).select_from(Comparison)) == 2
    campaign.state = CampaignState.PAUSED
    make_prompt(session, campaign, "While paused.")
    assert not hand_out_prompts(session, campaign_id=campaign.id, now=NOW)


def exported(session: Session, campaign: Campaign) -> list[bytes]:
    return list(export_house_jsonl(session, campaign_id=campaign.id, as_of=NOW, pseudonyms=Pseudonyms(b"secret")))


def test_what_people_wrote_is_exported_read_in_and_exported_the_same(
    session: Session,
    session_factory: sessionmaker[Session],
    settings: Settings,
    browser: TestClient,
    campaign: Campaign,
    tmp_path: Path,
) -> None:
    draft = make_comparison(session, campaign, texts=["A draft."], prompt=make_prompt(session, campaign, "Drafted?"))
    make_prompt(session, campaign, "Written for by nobody yet.")
    there = demonstrations_wanted(session, prompts=0)
    session.commit()
    for _ in range(3):
        page = opened(browser, campaign)
        submit(browser, page, f"Text for {assignment_in(page)}.", active_ms="1200")
    opened(browser, campaign)
    once = exported(session, campaign)
    assert len(once) == 4
    assert session.scalar(select(Demonstration.corrects_id).where(Demonstration.corrects_id.is_not(None)))
    assert draft.members[0].completion.text in b"".join(once).decode()
    done = import_lines(session_factory, there, [line.decode() for line in once], tmp_path)
    assert (done.counts["added"], done.counts["judgments"], done.rejections) == (4, 3, [])
    session.expire_all()
    assert exported(session, there) == once
    assert exported(session, campaign) == once
    again = import_lines(session_factory, there, [line.decode() for line in once], tmp_path)
    assert (again.counts["added"], again.counts["duplicates"]) == (0, 4)
    rankings = session.scalars(select(Judgment.ranking).where(Judgment.import_id.is_not(None))).all()
    assert rankings == [[], [], []]
    rows = pq.read_table(
        Path(make_snapshot(session_factory, settings, campaign=there).path or "") / "demonstrations.parquet"
    ).to_pylist()
    assert sorted(row["source"] for row in rows) == ["corrected", "written", "written"]
    ann = session.scalars(select(User).where(User.name == "Ann")).one()
    enrol(session, ann, there)
    session.commit()
    assert "Written for by nobody yet." in opened(browser, there), "what is still to be written for is handed out"


UNREADABLE: list[tuple[dict[str, Any], str]] = [
    (house("Why?"), "one completion at most"),
    ({"prompt": "Why?", "judgments": [{"annotator": "a"}]}, "a judgment needs a demonstration"),
    ({"prompt": "Why?", "judgments": [{"all_bad": True}]}, "a judgment needs a demonstration"),
    ({"prompt": "Why?", "judgments": [{"demonstration": {"text": "a"}, "all_bad": True}]}, "and no verdict"),
    ({"prompt": "Why?", "completions": ["a"], "judgments": [{"ranking": "1"}]}, "a judgment needs a demonstration"),
    ({"prompt": "Why?", "judgments": [{"demonstration": {"text": "a", "corrects": 1}}]}, "that is not there"),
    ({"prompt": "Why?", "completions": [" "]}, "completion 1 is empty"),
]


@pytest.mark.parametrize(("line", "reason"), UNREADABLE)
def test_what_is_no_line_of_something_written_is_refused_with_its_reason(
    session_factory: sessionmaker[Session], session: Session, campaign: Campaign, tmp_path: Path, line: Any, reason: str
) -> None:
    session.commit()
    done = import_lines(session_factory, campaign, [line], tmp_path)
    assert [reason in each["reason"] for each in done.rejections] == [True], done.rejections
    assert done.counts["added"] == 0


def test_the_page_of_imports_says_what_is_read_here(session: Session, campaign: Campaign, signed_in: SignedIn) -> None:
    mo = make_user(session, Role.MANAGER)
    enrol(session, mo, campaign, judges=False, access=Access.MANAGE)
    session.commit()
    manager = signed_in(mo)
    path = f"/campaigns/{campaign.id}/comparison-imports"
    assert f'href="{path}"' in manager.get(f"/campaigns/{campaign.id}").text
    page = manager.get(path).text
    assert "Import demonstrations" in page
    (example,) = re.findall(r"<code>(.*?)</code>", page, re.DOTALL)
    for line in unescape(example).splitlines():
        parse_line(line.encode(), is_writing=True)


# --- A race


PROMPTS, WRITERS, REDUNDANCY = 20, 12, 3


@pytest.mark.race
@pytest.mark.slow
def test_whoever_writes_at_once_each_prompt_ends_with_its_demonstrations_by_different_people(
    fresh_database: str,
) -> None:
    engine = make_engine(fresh_database, pool_size=WRITERS + 4)
    sessions = sessionmaker(engine, expire_on_commit=False)
    with sessions.begin() as session:
        campaign = demonstrations_wanted(session, redundancy=REDUNDANCY, prompts=PROMPTS)
        people = [make_user(session) for _ in range(WRITERS)]
        for person in people:
            enrol(session, person, campaign)
        campaign_id, ids = campaign.id, [person.id for person in people]

    def write(annotator_id: int) -> int:
        written = 0
        while True:
            with sessions.begin() as session:
                hold_desk(session, annotator_id=annotator_id)
                given = {"campaign_id": campaign_id, "annotator_id": annotator_id}
                lease = lease_next(session, **given, lasts=LASTS, now=NOW)  # type: ignore[arg-type]
                if lease is None:
                    hand_out_prompts(session, campaign_id=campaign_id, now=NOW)
                    lease = lease_next(session, **given, lasts=LASTS, now=NOW)  # type: ignore[arg-type]
            if lease is None:
                return written
            key = uuid.uuid4()
            for _ in range(2):  # sent twice
                with sessions.begin() as session:
                    held = hold_assignment(session, assignment_id=lease.assignment_id, annotator_id=annotator_id)
                    if written == 1 and held.state is AssignmentState.OPEN and annotator_id == ids[0]:
                        skip(session, assignment=held, reason="", now=NOW)
                        written += 1
                        break
                    submit_demonstration(
                        session, assignment=held, text=f"By {annotator_id}.", key=key, verdict=Verdict(), now=NOW
                    )
            else:
                written += 1

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, [each for each in ids for _ in range(2)]))  # two tabs each
    with sessions.begin() as session:
        rows = session.execute(
            text(
                "SELECT prompt_id, author_id FROM demonstrations JOIN slots USING (judgment_id) "
                "ORDER BY prompt_id, author_id"
            )
        ).all()
        stored = session.scalar(select(func.count()).select_from(Demonstration))
        given = session.scalar(select(func.count()).where(Judgment.state == JudgmentState.GIVEN))
        comparisons = session.scalar(select(func.count()).select_from(Comparison))
    assert comparisons == PROMPTS
    assert Counter(row.prompt_id for row in rows) == {row.prompt_id: REDUNDANCY for row in rows}
    assert len({(row.prompt_id, row.author_id) for row in rows}) == len(rows) == PROMPTS * REDUNDANCY
    assert stored == given, "what two tabs of one person sent for the same prompt are revisions, each with its text"
    engine.dispose()
