"""How an installation is, as a page, from a terminal and for Prometheus."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role
from app.database import make_engine, make_session_factory
from app.main import create_app
from app.operation.condition import examine
from app.settings import MODEL_SERVER_NOTE, Settings, load_settings
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.deployments import make_line
from tests.factories.desks import make_desk


def heartbeat(session: Session, *, seconds_ago: float) -> None:
    session.execute(
        text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (:at)"),
        {"at": NOW - timedelta(seconds=seconds_ago)},
    )
    session.commit()


@pytest.fixture
def condition(settings: Settings, session_factory: sessionmaker[Session]) -> Callable[[str], tuple[bool, str]]:
    def look(part: str) -> tuple[bool, str]:
        (finding,) = examine(settings, session_factory, now=NOW, only=part)
        assert finding.name == part
        return finding.is_well, f"{finding.message} {finding.advice}"

    return look


def test_a_worker_counts_while_its_heart_beats(session: Session, condition: Callable[[str], tuple[bool, str]]) -> None:
    assert condition("worker")[0] is False
    heartbeat(session, seconds_ago=60)
    assert condition("worker") == (False, condition("worker")[1])
    assert "palate worker" in condition("worker")[1]
    heartbeat(session, seconds_ago=2)
    assert condition("worker") == (True, "1 running ")


def test_a_model_server_that_does_not_answer_is_said(condition: Callable[[str], tuple[bool, str]]) -> None:
    is_well, said = condition("model-server")
    assert not is_well
    assert "does not answer" in said


def test_the_database_says_its_revision(condition: Callable[[str], tuple[bool, str]]) -> None:
    assert condition("database")[0]
    assert condition("disk")[0]
    assert condition("jobs") == (True, "0 under way, 0 waiting, 0 given up ")


def test_a_database_that_is_gone_is_not_a_crash(settings: Settings, tmp_path: Path) -> None:
    engine = make_engine(f"postgresql://nobody@/nothing?host={tmp_path}")
    findings = examine(settings, make_session_factory(engine), now=NOW)
    assert {finding.name: finding.is_well for finding in findings}["database"] is False
    assert "Start the database" in findings[0].advice


def test_admins_see_the_condition(session: Session, signed_in: SignedIn) -> None:
    page = signed_in(make_user(session, Role.ADMIN)).get("/condition")
    assert page.status_code == 200
    assert "not well" in page.text
    assert "palate doctor" in page.text


def test_metrics_are_for_whoever_has_the_token(
    session: Session, settings: Settings, session_factory: sessionmaker[Session]
) -> None:
    campaign = make_campaign(session)
    make_comparison(session, campaign)
    desk = make_desk(session, campaign)
    desk.judge(desk.take())
    session.commit()
    app = create_app(
        settings.model_copy(update={"metrics_token": SecretStr("prometheus-0001")}),
        session_factory=session_factory,
        clock=lambda: NOW,
    )
    with TestClient(app) as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404
        answer = client.get("/metrics", headers={"Authorization": "Bearer prometheus-0001"})
    figures = {
        sample.name: sample.value for family in text_string_to_metric_families(answer.text) for sample in family.samples
    }
    assert figures["palate_judgments"] == 1
    assert figures["palate_free_slots"] == 0
    assert figures["palate_disk_free_bytes"] > 0


def test_without_a_token_there_are_no_metrics(session: Session, signed_in: SignedIn) -> None:
    browser = signed_in(make_user(session, Role.ADMIN))
    assert browser.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404


@pytest.mark.parametrize("part", ["database", "worker", "jobs", "files", "web"])
def test_a_database_without_tables_is_to_be_migrated(settings: Settings, empty_database: str, part: str) -> None:
    engine = make_engine(empty_database)
    (finding,) = examine(settings, make_session_factory(engine), now=NOW, only=part)
    engine.dispose()
    assert not finding.is_well
    assert "palate migrate" in finding.advice


def test_a_folder_that_serves_and_is_gone_is_named(
    session: Session, condition: Callable[[str], tuple[bool, str]], tmp_path: Path
) -> None:
    make_line(session, path=str(tmp_path / "gone"))
    session.commit()
    is_well, said = condition("files")
    assert not is_well
    assert str(tmp_path / "gone") in said
    (tmp_path / "gone").mkdir()
    assert condition("files")[0]


def test_commands_find_the_model_server_of_a_palate_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("PALATE_MODEL_SERVER_URL", raising=False)
    assert load_settings().model_server_url == "http://127.0.0.1:8001"
    (tmp_path / MODEL_SERVER_NOTE).write_text("http://127.0.0.1:4711")
    assert load_settings().model_server_url == "http://127.0.0.1:4711"
    monkeypatch.setenv("PALATE_MODEL_SERVER_URL", "http://models:8001")
    assert load_settings().model_server_url == "http://models:8001"
