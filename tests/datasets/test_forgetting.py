"""Somebody asks for what is theirs to be deleted: afterwards nothing of it is to be found, and all else still holds."""

import io
import uuid
import zipfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from pyarrow import parquet
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role, User
from app.accounts.service.links import create_invitation
from app.accounts.service.people import deactivate_user, reactivate_user, rename
from app.accounts.service.throttling import record_failure
from app.audit import AuditEntry
from app.campaigns.models import Campaign
from app.campaigns.service import enrol_person
from app.comparisons.models import Judgment, JudgmentState, Slot
from app.comparisons.service.leasing import lease_next
from app.datasets.models import Snapshot, SnapshotState
from app.datasets.service.forgetting import finish_forgetting, forget_person
from app.datasets.service.withdrawing import delete_withdrawn_files, list_withdrawn
from app.errors import Conflict
from app.settings import Settings
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import demonstrate, judge_generated, make_snapshot, revise

Sessions = sessionmaker[Session]
WORD = "Wolkenkuckucksheim"
"""In everything that the person wrote, and nowhere else."""
EMAIL, NAME, FORMER = "erna@wolke.example", 'Erna "Wolke" Müller', "Erna Früher"


@dataclass
class World:
    """Two people who judged in a campaign, of whom Erna asks to be forgotten."""

    erna: User
    other: User
    admin: User
    campaign: Campaign
    snapshot: Snapshot
    spared: Snapshot


@pytest.fixture
def world(session: Session, session_factory: Sessions, settings: Settings) -> World:
    admin = make_user(session, Role.ADMIN)
    erna, other = make_user(session, name=FORMER, email=EMAIL), make_user(session)
    rename(session, user=erna, name=NAME, by_id=erna.id, now=NOW)
    campaign, elsewhere = make_campaign(session), make_campaign(session)
    for person in (erna, other):
        enrol(session, person, campaign)
    judgment = judge_generated(session, campaign, "What is rain?", by=erna, rationale=WORD, flags={"1": [WORD]})
    assert judgment.assignment is not None
    revise(session, judgment.assignment, revision=2, ranking=judgment.ranking, rationale=WORD, criteria={WORD: [[1]]})
    judge_generated(session, campaign, "What is snow?", by=other, rationale="Mine stays.")
    judge_generated(session, elsewhere, "What is hail?", by=other)
    demonstrate(session, campaign, "What is fog?", WORD, by=erna)
    session.execute(text("UPDATE assignments SET skip_reason = :word WHERE annotator_id = :id"),
                    {"word": WORD, "id": erna.id})  # fmt: skip
    create_invitation(session, role=Role.ANNOTATOR, email=EMAIL.upper(), created_by_id=admin.id, now=NOW)
    record_failure(session, email=EMAIL, address="192.0.2.1", now=NOW)
    session.add(
        AuditEntry(at=NOW, action="campaign.person_invited", subject_type="Campaign", subject_id="1",
                   details={"email": EMAIL, "judges": True})
    )  # fmt: skip
    session.commit()
    snapshot = make_snapshot(session_factory, settings, campaign=campaign, include_rationales=True)
    spared = make_snapshot(session_factory, settings, campaign=elsewhere)
    return World(erna, other, admin, campaign, session.merge(snapshot), session.merge(spared))


def forget(session: Session, settings: Settings, world: World) -> None:
    """The deed, and what its job does afterwards."""
    forget_person(session, user=world.erna, by_id=world.admin.id, now=NOW)
    session.commit()
    for snapshot in list_withdrawn(session):
        delete_withdrawn_files(settings, snapshot)


def rows_naming(session: Session, *words: str) -> list[str]:
    """Every row of every table that holds one of the words, in whatever case."""
    tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).all()
    found = []
    for table in tables:
        for word in words:
            query = text(f'SELECT "{table}"::text FROM "{table}" WHERE "{table}"::text ILIKE :word')
            found += [f"{table}: {row}" for row in session.scalars(query, {"word": f"%{word}%"})]
    return found


def files_naming(folder: Path, word: str) -> list[Path]:
    """Every file that holds the word, tables unpacked."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            held = str(parquet.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_bytes()
            found += [path] if (word if isinstance(held, str) else word.encode()) in held else []
    return found


def test_nothing_of_what_they_wrote_or_were_is_left_in_the_database_or_in_files(
    session: Session, settings: Settings, world: World
) -> None:
    words = (WORD, EMAIL, "Wolke", "Früher")
    assert len(rows_naming(session, WORD)) >= 4, "the search finds it beforehand"
    assert len(rows_naming(session, *words[1:])) >= 5
    assert len(files_naming(settings.data_dir, WORD)) >= 2
    forget(session, settings, world)
    assert rows_naming(session, *words) == []
    assert files_naming(settings.data_dir, WORD) == []
    (row,) = rows_naming(session, "Forgotten person")
    assert row.startswith("users: ")


def test_their_verdicts_are_gone_and_their_comparisons_are_judged_anew(
    session: Session, settings: Settings, world: World
) -> None:
    forget(session, settings, world)
    theirs = session.scalars(select(Judgment).where(Judgment.annotator_id == world.erna.id)).all()
    assert len(theirs) == 2
    for judgment in theirs:
        assert judgment.state is JudgmentState.RETRACTED
        assert (judgment.ranking, judgment.flags, judgment.criteria, judgment.rationale) == (None, None, None, "")
    freed = session.scalars(select(Slot).where(Slot.comparison_id == theirs[0].comparison_id)).one()
    assert (freed.assignment_id, freed.judgment_id) == (None, None)
    lease = lease_next(
        session, campaign_id=world.campaign.id, annotator_id=world.other.id, lasts=timedelta(minutes=5), now=NOW
    )
    assert lease is not None
    assert lease.comparison_id == theirs[0].comparison_id


def test_what_others_did_stays_as_it_was(session: Session, settings: Settings, world: World) -> None:
    theirs = select(Judgment.id, Judgment.ranking, Judgment.rationale, Judgment.state).where(
        Judgment.annotator_id == world.other.id
    )
    before = session.execute(theirs.order_by(Judgment.id)).all()
    forget(session, settings, world)
    assert session.execute(theirs.order_by(Judgment.id)).all() == before
    assert world.spared.state is SnapshotState.READY
    assert (Path(world.spared.path or "") / "judgments.parquet").is_file()
    assert world.snapshot.state is SnapshotState.WITHDRAWN


def test_a_verdict_and_a_snapshot_that_were_on_their_way_are_caught_afterwards(
    session: Session, session_factory: Sessions, settings: Settings, world: World
) -> None:
    forget(session, settings, world)
    judge_generated(session, world.campaign, "What is dew?", by=world.erna, rationale=WORD)
    late = make_snapshot(session_factory, settings, campaign=world.campaign, at=NOW + timedelta(seconds=1))
    done = finish_forgetting(session, now=NOW)
    assert (done.judgments > 0, done.snapshots) == (True, 1)
    assert session.get_one(Snapshot, late.id, populate_existing=True).state is SnapshotState.WITHDRAWN
    assert rows_naming(session, WORD) == []
    done = finish_forgetting(session, now=NOW)
    assert (done.judgments, done.snapshots) == (0, 0)


def test_a_new_snapshot_freezes_without_them(
    session: Session, session_factory: Sessions, settings: Settings, world: World
) -> None:
    forget(session, settings, world)
    fresh = make_snapshot(session_factory, settings, campaign=world.campaign, at=NOW + timedelta(seconds=1))
    assert (fresh.counts or {})["judgments"] == 1
    assert (fresh.counts or {})["demonstrations"] == 0


def test_whoever_is_forgotten_cannot_come_back_by_a_button(session: Session, settings: Settings, world: World) -> None:
    forget(session, settings, world)
    with pytest.raises(Conflict, match="forgotten on request"):
        reactivate_user(session, user=world.erna, by_id=world.admin.id, now=NOW)
    with pytest.raises(Conflict):
        enrol_person(
            session, campaign=world.campaign, email=world.erna.email, judges=True, by_id=world.admin.id, now=NOW
        )


def test_neither_oneself_nor_the_last_admin_can_be_forgotten(session: Session, world: World) -> None:
    with pytest.raises(Conflict, match="yourself"):
        forget_person(session, user=world.admin, by_id=world.admin.id, now=NOW)
    with pytest.raises(Conflict):
        forget_person(session, user=world.admin, by_id=None, now=NOW)
    assert world.admin.forgotten_at is None


def test_the_page_says_what_it_erases_and_asks_for_the_email(
    session: Session, signed_in: SignedIn, world: World
) -> None:
    browser, address = signed_in(world.admin), f"/people/{world.erna.id}"
    assert f'href="{address}/forgetting"' in browser.get(address).text
    page = browser.get(f"{address}/forgetting").text
    assert "2 judgments lose" in page
    assert f'href="/snapshots/{world.snapshot.id}"' in page
    wrong = browser.post(f"{address}/forgetting", data={"email": "somebody@else.example"})
    assert wrong.status_code == 422
    assert "not the email" in wrong.text
    assert world.erna.forgotten_at is None
    done = browser.post(f"{address}/forgetting", data={"email": f" {EMAIL.upper()} "})
    assert (done.status_code, done.headers["location"]) == (303, f"{address}?said=forgotten")
    after = browser.get(address).text
    assert "nothing of this person is left" in after
    assert "forgetting" not in after.split("</h1>")[1]
    assert browser.post(f"{address}/forgetting", data={"email": ""}).status_code == 303, "twice does no harm"


def test_a_deactivated_person_can_be_forgotten_too(session: Session, settings: Settings, world: World) -> None:
    deactivate_user(session, user=world.erna, by_id=world.admin.id, now=NOW)
    forget(session, settings, world)
    assert rows_naming(session, WORD, EMAIL) == []


def test_a_zip_asked_for_afterwards_gives_nothing(
    session: Session, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    browser = signed_in(world.admin)
    before = browser.get(f"/snapshots/{world.snapshot.id}/folder.zip")
    assert zipfile.ZipFile(io.BytesIO(before.content)).testzip() is None
    forget(session, settings, world)
    assert browser.get(f"/snapshots/{world.snapshot.id}/folder.zip").status_code == 404


def test_a_replay_from_their_browser_is_nobody_s(
    session: Session, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    browser = signed_in(world.erna)
    assignment = session.scalars(select(Judgment.assignment_id).where(Judgment.annotator_id == world.erna.id)).first()
    forget(session, settings, world)
    answer = browser.post(f"/assignments/{assignment}/judgment", data={"ranking": "1>2", "key": str(uuid.uuid4())})
    assert answer.status_code in {303, 401}
    assert rows_naming(session, WORD) == []
