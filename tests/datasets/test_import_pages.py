"""Uploading comparisons, and following how they go in."""

from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign
from app.datasets.service.comparison_import import load_comparisons
from app.generation.models import Import, ImportState
from app.generation.service.uploads import upload_path
from app.settings import Settings
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import house, write_lines

Sessions = sessionmaker[Session]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    return make_campaign(session)


@pytest.fixture
def manager(session: Session, campaign: Campaign) -> User:
    manager = make_user(session, Role.MANAGER)
    enrol(session, manager, campaign, judges=False, access=Access.MANAGE)
    return manager


def test_an_uploaded_file_is_loaded_in_the_background_and_its_bad_lines_are_shown(
    *,
    session: Session,
    session_factory: Sessions,
    settings: Settings,
    signed_in: SignedIn,
    campaign: Campaign,
    manager: User,
    tmp_path: Path,
) -> None:
    browser = signed_in(manager)
    address = f"/campaigns/{campaign.id}/comparison-imports"
    assert "Import comparisons" in browser.get(address).text
    path = write_lines(tmp_path / "mine.jsonl", [house("Why?", "1>2"), "{<script>"], packed=True)
    with path.open("rb") as file:
        answer = browser.post(address, files={"file": ("../mine.jsonl.gz", file)})
    record = session.scalars(select(Import)).one()
    assert (answer.status_code, answer.headers["location"]) == (303, f"{address}/{record.id}")
    assert (record.filename, record.state) == ("mine.jsonl.gz", ImportState.WAITING)
    job = session.execute(text("SELECT task_name, args->>'import_id' FROM procrastinate_jobs")).all()
    assert ("datasets:import_comparisons", str(record.id)) in [tuple(row) for row in job]
    assert 'hx-trigger="every 1s"' in browser.get(f"{address}/{record.id}").text

    uploaded = upload_path(settings, import_id=record.id)
    load_comparisons(session_factory, import_id=record.id, path=uploaded, clock=lambda: NOW)
    session.expire_all()
    page = browser.get(f"{address}/{record.id}", headers={"HX-Request": "true"}).text
    assert "not valid JSON" in page
    assert "{&lt;script&gt;" in page
    assert "hx-trigger" not in page


def test_a_post_without_a_file_says_so(signed_in: SignedIn, campaign: Campaign, manager: User) -> None:
    answer = signed_in(manager).post(f"/campaigns/{campaign.id}/comparison-imports", data={"x": "y"})
    assert answer.status_code == 422
    assert "Choose a file first" in answer.text


def test_only_managers_import(session: Session, signed_in: SignedIn, campaign: Campaign) -> None:
    researcher = make_user(session, Role.RESEARCHER)
    enrol(session, researcher, campaign, judges=False, access=Access.RESEARCH)
    address = f"/campaigns/{campaign.id}/comparison-imports"
    assert signed_in(researcher).get(address).status_code == 403
    assert signed_in(researcher).post(address).status_code == 403
    assert signed_in(make_user(session)).get(address).status_code == 404


def test_an_import_of_another_campaign_is_not_found(
    session: Session, signed_in: SignedIn, campaign: Campaign, manager: User
) -> None:
    other = make_campaign(session)
    enrol(session, manager, other, access=Access.MANAGE)
    browser = signed_in(manager)
    answer = browser.post(f"/campaigns/{other.id}/comparison-imports", files={"file": ("a.jsonl", b"{}")})
    number = answer.headers["location"].rpartition("/")[2]
    assert browser.get(f"/campaigns/{campaign.id}/comparison-imports/{number}").status_code == 404


def test_completions_of_ones_own_in_a_table_are_judged_blind_like_any_other(
    *,
    session: Session,
    session_factory: Sessions,
    settings: Settings,
    signed_in: SignedIn,
    campaign: Campaign,
    manager: User,
) -> None:
    table = (
        "prompt,completion_1,completion_2,model_2,ranking\n"
        'Why?,"Because, it is.",No reason.,secret-model,\n'
        "How?,Like this.,Like that.,,2>1\n"
        "Who?,only one,,,\n"
        "What?,a\n"
        "Where?,here,there,,9>9\n"
    )
    address = f"/campaigns/{campaign.id}/comparison-imports"
    page = signed_in(manager).get(f"/campaigns/{campaign.id}").text
    assert f'href="{address}"' in page
    answer = signed_in(manager).post(address, files={"file": ("mine.csv", table.encode())})
    record = session.scalars(select(Import)).one()
    uploaded = upload_path(settings, import_id=record.id)
    load_comparisons(session_factory, import_id=record.id, path=uploaded, clock=lambda: NOW)
    session.expire_all()
    shown = signed_in(manager).get(answer.headers["location"]).text
    assert (record.counts["added"], record.counts["judgments"], record.counts["rejected"]) == (2, 1, 3)
    assert [rejection["line"] for rejection in record.rejections] == [4, 5, 6]
    assert "it has 2 cells, the header 5" in shown
    annotator = make_user(session)
    enrol(session, annotator, campaign)
    session.commit()
    desk = signed_in(annotator).get(f"/campaigns/{campaign.id}/judge").text
    assert "Because, it is." in desk
    assert "secret-model" not in desk
