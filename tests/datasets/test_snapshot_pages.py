"""The Snapshots pages: who sees what, freezing, and the files to take away."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role, User
from app.campaigns.models import Access, Campaign
from app.datasets.models import Snapshot, SnapshotState
from app.datasets.service.freezing import freeze_snapshot
from app.settings import Settings
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import house, import_lines, judge_generated, make_snapshot
from tests.factories.deployments import make_line
from trainer.contract.files import file_sha256

Sessions = sessionmaker[Session]


@dataclass
class World:
    """A line with two judged campaigns: one person reads the first, one both, one only judges."""

    one: Campaign
    two: Campaign
    reads_one: User
    reads_both: User
    judges: User
    admin: User


@pytest.fixture
def world(session: Session, session_factory: Sessions, tmp_path: Path) -> World:
    line = make_line(session)
    one, two = make_campaign(session, line=line), make_campaign(session, line=line)
    reads_one, reads_both = make_user(session, Role.RESEARCHER), make_user(session, Role.RESEARCHER)
    judges = make_user(session)
    enrol(session, reads_one, one, judges=False, access=Access.RESEARCH)
    enrol(session, judges, one)
    for campaign in (one, two):
        enrol(session, reads_both, campaign, judges=False, access=Access.RESEARCH)
    session.commit()
    for campaign in (one, two):
        lines = [house(f"Question {n}?", "1>2") for n in range(30)]
        import_lines(session_factory, campaign, [*lines, house("Tie?", "1=2")], tmp_path)
    return World(one, two, reads_one, reads_both, judges, make_user(session, Role.ADMIN))


def jobs(session: Session) -> list[tuple[str, int]]:
    query = text(
        "SELECT task_name, (args->>'snapshot_id')::int FROM procrastinate_jobs WHERE task_name LIKE 'datasets:%'"
    )
    return [(name, number) for name, number in session.execute(query)]


def test_freezing_puts_a_job_in_line_and_the_page_waits_for_it(
    session: Session, session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    browser = signed_in(world.reads_one)
    before = browser.get(f"/campaigns/{world.one.id}/snapshots").text
    assert "What a snapshot would hold now" in before
    answer = browser.post(f"/campaigns/{world.one.id}/snapshots", data={"include_surplus": "true"})
    snapshot = session.scalars(select(Snapshot)).one()
    assert (answer.status_code, answer.headers["location"]) == (303, f"/snapshots/{snapshot.id}")
    assert (snapshot.policy["include_surplus"], snapshot.policy["incomplete_comparisons"]) == (True, True)
    assert jobs(session) == [("datasets:freeze_snapshot", snapshot.id)]
    page = browser.get(f"/snapshots/{snapshot.id}").text
    assert 'hx-trigger="every 1s"' in page
    freeze_snapshot(session_factory, settings, snapshot_id=snapshot.id, now=NOW)
    session.expire_all()
    fragment = browser.get(f"/snapshots/{snapshot.id}", headers={"HX-Request": "true"}).text
    assert "hx-trigger" not in fragment
    assert "<html" not in fragment
    assert snapshot.rows_sha256 is not None
    assert snapshot.rows_sha256 in fragment
    assert "Everything (zip)" in fragment


def test_the_zip_holds_the_folder_as_it_is(
    session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World, tmp_path: Path
) -> None:
    snapshot = make_snapshot(session_factory, settings, campaign=world.one)
    answer = signed_in(world.reads_one).get(f"/snapshots/{snapshot.id}/folder.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert "content-encoding" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "out")
    (unpacked,) = (tmp_path / "out").iterdir()
    folder = Path(snapshot.path or "")
    assert {path.name: file_sha256(path) for path in unpacked.iterdir()} == {
        path.name: file_sha256(path) for path in folder.iterdir()
    }


def test_the_trl_file_has_a_line_for_each_pair(
    session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    snapshot = make_snapshot(session_factory, settings, campaign=world.one)
    browser = signed_in(world.reads_one)
    answers = {
        split: browser.get(f"/snapshots/{snapshot.id}/trl-preference.{split}.jsonl") for split in ("train", "eval")
    }
    pairs = {split: [json.loads(line) for line in answer.text.splitlines()] for split, answer in answers.items()}
    assert snapshot.counts is not None
    assert {split: len(rows) for split, rows in pairs.items()} == {
        "train": snapshot.counts["pairs_train"],
        "eval": snapshot.counts["pairs_eval"],
    }
    assert pairs["train"][0].keys() == {"prompt", "chosen", "rejected"}
    assert pairs["train"][0]["chosen"] == [{"role": "assistant", "content": "One."}]
    assert ".jsonl" in answers["train"].headers["content-disposition"]
    assert browser.get(f"/snapshots/{snapshot.id}/trl-preference.test.jsonl").status_code in {404, 422}


def test_a_snapshot_of_a_campaign_is_for_those_who_may_read_it(
    session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    snapshot = make_snapshot(session_factory, settings, campaign=world.two)
    paths = ["", "/folder.zip", "/trl-preference.train.jsonl"]
    for person, status in [(world.reads_both, 200), (world.admin, 200), (world.reads_one, 404), (world.judges, 404)]:
        browser = signed_in(person)
        assert [browser.get(f"/snapshots/{snapshot.id}{path}").status_code for path in paths] == [status] * 3
        assert (snapshot.name in browser.get("/snapshots").text) is (status == 200)


def test_a_snapshot_of_a_line_is_for_those_who_may_read_all_its_campaigns(
    session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    snapshot = make_snapshot(session_factory, settings, line_id=world.one.line_id)
    for person, status in [(world.reads_both, 200), (world.admin, 200), (world.reads_one, 404), (world.judges, 404)]:
        browser = signed_in(person)
        assert browser.get(f"/snapshots/{snapshot.id}").status_code == status
        assert browser.get(f"/models/{world.one.line_id}/snapshots").status_code == status
        freezing = browser.post(f"/models/{world.one.line_id}/snapshots").status_code
        assert freezing == (303 if status == 200 else 404)


def test_an_annotator_may_not_freeze(signed_in: SignedIn, world: World) -> None:
    browser = signed_in(world.judges)
    assert browser.post(f"/campaigns/{world.one.id}/snapshots").status_code == 403
    assert browser.post(f"/campaigns/{world.two.id}/snapshots").status_code == 404
    assert "Freeze a new one" in browser.get("/snapshots").text


def test_a_failed_snapshot_says_why_and_can_be_tried_again(
    session: Session, session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    snapshot = make_snapshot(session_factory, settings, campaign=world.one)
    row = session.get_one(Snapshot, snapshot.id)
    row.state, row.message = SnapshotState.FAILED, "The disk <is> full."
    session.commit()
    browser = signed_in(world.reads_one)
    assert "The disk &lt;is&gt; full." in browser.get(f"/snapshots/{row.id}").text
    assert browser.get(f"/snapshots/{row.id}/folder.zip").status_code == 404
    assert browser.post(f"/snapshots/{row.id}/attempts").status_code == 303
    session.expire_all()
    assert row.state is SnapshotState.WAITING
    assert browser.post(f"/snapshots/{row.id}/attempts").status_code == 409


def test_a_withdrawn_snapshot_keeps_its_facts_and_gives_no_files(
    session: Session, session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    snapshot = make_snapshot(session_factory, settings, campaign=world.one)
    session.get_one(Snapshot, snapshot.id).state = SnapshotState.WITHDRAWN
    session.commit()
    browser = signed_in(world.reads_one)
    page = browser.get(f"/snapshots/{snapshot.id}").text
    assert "Withdrawn" in page
    assert snapshot.rows_sha256 is not None
    assert snapshot.rows_sha256 in page
    assert "Everything (zip)" not in page
    for path in ("folder.zip", "trl-preference.train.jsonl"):
        assert browser.get(f"/snapshots/{snapshot.id}/{path}").status_code == 404


def test_no_page_says_who_an_annotator_is(
    session: Session, session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    annotator = make_user(session, name="Gwendolyn Annotator", email="gwen@example.org")
    judge_generated(session, world.one, "Who?", by=annotator)
    snapshot = make_snapshot(session_factory, settings, campaign=world.one)
    browser: TestClient = signed_in(world.reads_one)
    answers = [browser.get(f"/snapshots/{snapshot.id}{path}") for path in ("", "/folder.zip")]
    for answer in answers:
        assert b"Gwendolyn" not in answer.content
        assert b"gwen@" not in answer.content


def test_a_snapshot_from_before_there_were_rejections_is_shown(
    session: Session, session_factory: Sessions, settings: Settings, signed_in: SignedIn, world: World
) -> None:
    snapshot = make_snapshot(session_factory, settings, campaign=world.one)
    older = text(
        """UPDATE snapshots SET policy = policy - 'include_rejected', manifest = manifest #- '{policy,include_rejected}'
                                  #- '{counts,rejected}', counts = counts - 'rejected' WHERE id = :id"""
    )
    session.execute(older, {"id": snapshot.id})
    session.commit()
    assert "without rejected judgments" in signed_in(world.reads_one).get(f"/snapshots/{snapshot.id}").text
