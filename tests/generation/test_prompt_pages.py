"""The pages of prompts and of their imports, with the worker's part in between."""

import csv
import gzip
import io
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role
from app.background import Workplace
from app.campaigns.models import Access, Campaign
from app.generation.csv_writing import csv_text
from app.generation.jobs import import_prompts
from app.generation.models import Import, ImportState, Prompt, PromptState
from app.generation.service.uploads import upload_path
from app.settings import Settings
from tests.conftest import SignedIn, StoppedClock
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.generation import make_import, make_prompt
from tests.queued import queued

HTMX = {"HX-Request": "true"}


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session)


@pytest.fixture
def browser(session: Session, campaign: Campaign, signed_in: SignedIn) -> TestClient:
    """A browser of the campaign's manager."""
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, access=Access.MANAGE)
    return signed_in(manager)


@pytest.fixture
def work(
    session: Session, session_factory: sessionmaker[Session], settings: Settings, clock: StoppedClock
) -> Callable[[], None]:
    """`work()` does what the worker would do with the imports in line."""
    place = Workplace(settings=settings, session_factory=session_factory, clock=clock)

    def work_off() -> None:
        for task, arguments in queued(session):
            if task == "generation:import_prompts":
                import_prompts.func(SimpleNamespace(additional_context={"workplace": place}), **arguments)
        session.expire_all()

    return work_off


def path_of(campaign: Campaign, rest: str = "") -> str:
    return f"/campaigns/{campaign.id}/{rest}"


def send(browser: TestClient, campaign: Campaign, content: bytes, name: str = "prompts.jsonl") -> str:
    """Upload a file; returns where the browser is sent."""
    answer = browser.post(path_of(campaign, "imports"), files={"file": (name, content)})
    assert answer.status_code == 303
    return answer.headers["location"]


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_campaign_without_prompts_says_how_to_get_some(browser: TestClient, campaign: Campaign) -> None:
    page = browser.get(path_of(campaign, "prompts")).text
    assert "No prompts yet" in page
    assert path_of(campaign, "imports") in page


def test_a_prompt_is_written_by_hand(session: Session, browser: TestClient, campaign: Campaign) -> None:
    form = {"text": "What goes with beans?\r\n", "conversation": "", "tags": "food; short"}
    answer = browser.post(path_of(campaign, "prompts"), data=form)
    prompt = session.scalars(select(Prompt)).one()
    assert prompt.messages == [{"role": "user", "content": "What goes with beans?"}]
    assert prompt.tags == ["food", "short"]
    page = text_of(browser.get(answer.headers["location"]).text)
    assert "The prompt is added." in page
    again = browser.post(path_of(campaign, "prompts"), data=form)
    assert (again.status_code, f"number {prompt.id}, active" in again.text) == (409, True)


def test_a_conversation_is_written_as_json(session: Session, browser: TestClient, campaign: Campaign) -> None:
    turns = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}, {"role": "user", "content": "C"}]
    browser.post(path_of(campaign, "prompts"), data={"text": "", "conversation": json.dumps(turns)})
    assert session.scalars(select(Prompt)).one().messages == turns


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"text": " "}, "Write either the text of one message, or a conversation."),
        ({"text": "x", "conversation": "[]"}, "Write either the text of one message, or a conversation."),
        ({"conversation": "[{"}, "This is not valid JSON"),
        ({"conversation": '[{"role": "assistant", "content": "x"}]'}, "ends with a turn of the assistant"),
        ({"conversation": '"x"'}, "neither a text nor a list of messages"),
        ({"conversation": "[" * 200 + "]" * 200}, "message 1 is not an object"),
        ({"text": "x" * 50_001}, "at most 50000 characters"),
        ({"text": "x", "tags": "t" * 101}, "a tag of more than 100 characters"),
    ],
)
def test_what_cannot_be_a_prompt_comes_back_as_typed(
    browser: TestClient, campaign: Campaign, form: dict[str, str], said: str
) -> None:
    answer = browser.post(path_of(campaign, "prompts"), data=form)
    assert answer.status_code == 422
    assert said in unescape(answer.text)
    assert all(value[:20] in unescape(answer.text) for value in form.values())


def test_prompts_are_found_by_word_tag_and_state(session: Session, browser: TestClient, campaign: Campaign) -> None:
    make_prompt(session, campaign, "Bake a cake", tags=["food & drink"])
    make_prompt(session, campaign, "<b>Name</b> a star", state=PromptState.SET_ASIDE, state_reason="All alike.")
    session.commit()
    page = browser.get(path_of(campaign, "prompts")).text
    assert "2 prompts" in page
    assert "&lt;b&gt;Name&lt;/b&gt;" in page
    assert "?tag=food+%26+drink" in page or "?tag=food%20%26%20drink" in page
    fragment = browser.get(path_of(campaign, "prompts"), params={"tag": "food & drink"}, headers=HTMX).text
    assert fragment.lstrip().startswith('<section id="prompt-list"')
    assert "1 prompt<" in fragment
    whole = {**HTMX, "HX-Request-Type": "full"}
    assert "<html" in browser.get(path_of(campaign, "prompts"), headers=whole).text, "going back in history"
    aside = browser.get(path_of(campaign, "prompts"), params={"state": "set_aside"}, headers=HTMX).text
    assert "All alike." in aside
    assert "Try all of them again" in aside
    assert "No prompt is like that" in browser.get(path_of(campaign, "prompts"), params={"q": "moon"}).text


def test_prompts_are_turned_over_page_by_page_with_the_filter_kept(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    for number in range(51):
        make_prompt(session, campaign, f"Prompt {number}", tags=["a b"])
    session.commit()
    first = browser.get(path_of(campaign, "prompts"), params={"tag": "a b"}).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older
    second = browser.get(unescape(older[1])).text
    assert "page 2 of 2" in second
    assert 'rel="next"' not in second
    assert "Prompt 0<" in second


def test_a_prompt_is_retired_and_restored_in_its_row(session: Session, browser: TestClient, campaign: Campaign) -> None:
    prompt = make_prompt(session, campaign)
    session.commit()
    path = path_of(campaign, f"prompts/{prompt.id}")
    row = browser.post(f"{path}/retirement", headers=HTMX).text
    assert row.lstrip().startswith(f'<li id="prompt-{prompt.id}" class="is-retired"')
    assert "Restore" in row
    assert browser.post(f"{path}/restoration").headers["location"] == f"{path}?said=restored", "without script"


def test_a_prompts_page_shows_every_turn_its_metadata_and_takes_tags(
    session: Session, browser: TestClient, campaign: Campaign
) -> None:
    prompt = make_prompt(session, campaign, "  Keep\n  my spaces", details={"source": "<us>"}, external_id="x-1")
    session.commit()
    path = path_of(campaign, f"prompts/{prompt.id}")
    page = browser.get(path).text
    assert "  Keep\n  my spaces" in page
    assert "<us>" not in page
    browser.post(f"{path}/tags", data={"tags": "a; b; a"})
    session.expire_all()
    assert prompt.tags == ["a", "b"]
    assert browser.post(f"{path}/tags", data={"tags": "t" * 101}).status_code == 422


def test_a_researcher_reads_prompts_and_changes_none(session: Session, campaign: Campaign, signed_in: SignedIn) -> None:
    prompt, researcher = make_prompt(session, campaign, "Readable"), make_user(session, Role.RESEARCHER)
    enrol(session, researcher, campaign, access=Access.RESEARCH)
    reader = signed_in(researcher)
    for rest in ("prompts", f"prompts/{prompt.id}"):
        page = reader.get(path_of(campaign, rest)).text
        assert "Readable" in page
        assert "Retire" not in page
        assert '<form method="post" action="/campaigns' not in page


def test_a_prompt_of_another_campaign_is_not_found(session: Session, browser: TestClient, campaign: Campaign) -> None:
    other = make_prompt(session)
    session.commit()
    assert browser.get(path_of(campaign, f"prompts/{other.id}")).status_code == 404
    assert browser.post(path_of(campaign, f"prompts/{other.id}/retirement")).status_code == 404


def test_an_uploaded_file_is_kept_read_by_the_worker_and_let_go(
    session: Session, browser: TestClient, campaign: Campaign, settings: Settings, work: Callable[[], None]
) -> None:
    location = send(browser, campaign, gzip.compress(b'"a"\n"A"\n{\n"b"\n'), "../../evil.jsonl.gz")
    record = session.scalars(select(Import)).one()
    kept = upload_path(settings, import_id=record.id)
    assert (record.state, record.filename) == (ImportState.WAITING, "evil.jsonl.gz")
    assert kept.parent == settings.data_dir / "uploads"
    assert kept.exists()
    assert "every 1s" in browser.get(location).text
    work()
    assert record.state is ImportState.DONE
    assert record.sha256 is not None
    assert not kept.exists()
    page = browser.get(location).text
    assert "every 1s" not in page
    assert "4 Lines" in text_of(page) or "Lines 4" in text_of(page)
    assert "not valid JSON" in page
    assert "2" in text_of(browser.get(path_of(campaign, "imports")).text)
    assert [prompt.messages[0]["content"] for prompt in session.scalars(select(Prompt).order_by(Prompt.id))] == [
        "a",
        "b",
    ]


def test_a_file_that_cannot_be_read_says_so_on_its_page(
    session: Session, browser: TestClient, campaign: Campaign, work: Callable[[], None]
) -> None:
    location = send(browser, campaign, b"PAR1")
    work()
    assert "This is a Parquet file" in browser.get(location).text


def test_a_file_that_vanished_is_said_and_not_tried_for_ever(
    session: Session, browser: TestClient, campaign: Campaign, settings: Settings, work: Callable[[], None]
) -> None:
    location = send(browser, campaign, b'"a"')
    upload_path(settings, import_id=session.scalars(select(Import.id)).one()).unlink()
    work()
    assert "no longer there. Upload it again" in browser.get(location).text


def test_no_file_or_too_large_a_file_is_refused(
    session: Session, browser: TestClient, campaign: Campaign, settings: Settings
) -> None:
    nothing = browser.post(path_of(campaign, "imports"), files={"file": ("", b"")})
    assert (nothing.status_code, "Choose a file first." in nothing.text) == (422, True)
    object.__setattr__(settings, "upload_megabytes", 1)
    large = browser.post(path_of(campaign, "imports"), files={"file": ("a.jsonl", b"x" * (2**20 + 1))})
    assert (large.status_code, "larger than 1 MB" in large.text) == (422, True)
    assert session.scalars(select(Import)).all() == []
    assert list(settings.data_dir.glob("uploads/*")) == []


def test_rejections_are_downloaded_without_formulas(session: Session, browser: TestClient, campaign: Campaign) -> None:
    rejections = [{"line": 3, "reason": "the prompt is empty", "excerpt": '=HYPERLINK("http://x","y")'}]
    record = make_import(session, campaign, rejections=rejections, counts={"rejected": 1})
    session.commit()
    answer = browser.get(path_of(campaign, f"imports/{record.id}/rejections.csv"))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert rows == [["line", "reason", "excerpt"], ["3", "the prompt is empty", '\'=HYPERLINK("http://x","y")']]


def test_cells_that_begin_a_formula_are_made_plain() -> None:
    rows = [["=1", "+1", "-1", "@x", "\tx", "x=1", 1, -1]]
    assert csv_text([], rows).splitlines()[1] == "'=1,'+1,'-1,'@x,'\tx,x=1,1,-1"


@pytest.mark.real
def test_real_prompts_load_by_upload(
    session: Session, browser: TestClient, campaign: Campaign, work: Callable[[], None], real_data: Path
) -> None:
    location = send(browser, campaign, (real_data / "prompts" / "oasst_prompt_lottery.jsonl").read_bytes())
    work()
    assert session.scalars(select(Import)).one().counts["added"] == 250
    assert browser.get(location).status_code == 200
    assert "250 prompts, page 1 of 5" in text_of(browser.get(path_of(campaign, "prompts")).text)
