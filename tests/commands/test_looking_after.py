"""Taking data back and cleaning up from a terminal."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.accounts.models import User
from app.database import make_engine, make_session_factory
from app.datasets.models import Snapshot, SnapshotState
from tests.commands.test_commands import database, done, palate, refusal
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import judge_generated

__all__ = ["database"]


@pytest.fixture
def judged(database: str) -> str:
    """A campaign that Ben judged in."""
    with make_session_factory(make_engine(database))() as session:
        ben = make_user(session, name="Ben", email="ben@example.org")
        campaign = make_campaign(session, name="Politeness")
        enrol(session, ben, campaign)
        judge_generated(session, campaign, "What is rain?", by=ben, rationale="Mine.")
    return database


def looked_up(database: str, session_of: type[User | Snapshot]) -> User | Snapshot:
    session: Session = make_session_factory(make_engine(database))()
    with session:
        return session.query(session_of).order_by(session_of.id).first()  # type: ignore[return-value]


def test_a_snapshot_is_withdrawn_with_a_reason(judged: str, tmp_path: Path) -> None:
    done("snapshot", "--campaign", "Politeness")
    assert "at least 10" in refusal("snapshot", "withdraw", "1", "--reason", "no")
    assert "no such snapshot" in refusal("snapshot", "withdraw", "7", "--reason", "They never agreed.")
    assert "withdrawn" in done("snapshot", "withdraw", "1", "--reason", "They never agreed.")
    assert [path.name for path in (tmp_path / "data" / "snapshots" / "1").iterdir()] == ["manifest.json"]
    assert "Only a snapshot that is ready" in refusal("snapshot", "withdraw", "1", "--reason", "They never agreed.")


def test_a_person_is_forgotten_after_a_question(judged: str, tmp_path: Path) -> None:
    done("snapshot", "--campaign", "Politeness", "--rationales")
    kept = palate("user", "forget", "ben@example.org")
    assert kept.exit_code == 1, "nobody said yes"
    assert "1 judgment would be erased, and 1 snapshot withdrawn" in kept.output
    assert looked_up(judged, User).forgotten_at is None  # type: ignore[union-attr]
    assert "delete those" in done("user", "forget", "BEN@example.org", "--yes")
    assert looked_up(judged, Snapshot).state is SnapshotState.WITHDRAWN  # type: ignore[union-attr]
    assert not (tmp_path / "data" / "snapshots" / "1" / "judgments.parquet").exists()
    assert "Nobody here has the email" in refusal("user", "forget", "ben@example.org", "--yes")


def test_cleaning_says_what_would_go_before_it_goes(judged: str, tmp_path: Path) -> None:
    done("snapshot", "--campaign", "Politeness")
    folder, copy = tmp_path / "data" / "snapshots" / "1", tmp_path / "copy"
    shutil.copytree(folder, copy)
    done("snapshot", "withdraw", "1", "--reason", "They never agreed.")
    shutil.copytree(copy, folder, dirs_exist_ok=True)  # as if somebody had put the files back
    said = done("clean", "--dry-run")
    assert "judgments.parquet: a file of snapshot 1, which was withdrawn" in said
    assert "would go" in said
    assert (folder / "judgments.parquet").exists()
    assert "deleted" in done("clean")
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
    assert "0 leftovers" in done("clean", "--dry-run")
