"""Taking a snapshot back: its files go, what it was stays known, and nothing trains on it any more."""

import io
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role
from app.audit import AuditEntry
from app.campaigns.models import Access
from app.datasets.models import Snapshot, SnapshotState
from app.datasets.scope import Scope
from app.datasets.service.snapshots import latest_ready
from app.datasets.service.withdrawing import delete_withdrawn_files, withdraw_snapshot, withdrawn_files
from app.errors import Conflict, Invalid
from app.settings import Settings
from app.training.models import Run, RunState
from app.training.service.steering import cancel_runs_on_withdrawn
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol, make_campaign
from tests.factories.datasets import judge_generated, make_snapshot
from tests.kernel.walking import build_world
from trainer.contract.files import read_json
from trainer.contract.snapshot import MANIFEST_FILE, SnapshotManifest

Sessions = sessionmaker[Session]
REASON = "It held a class that never agreed to this."


@pytest.fixture
def snapshot(session: Session, session_factory: Sessions, settings: Settings) -> Snapshot:
    """A snapshot of one campaign, with files."""
    campaign = make_campaign(session)
    judge_generated(session, campaign, "What is two plus two?")
    return session.merge(make_snapshot(session_factory, settings, campaign=campaign))


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_withdrawing_deletes_every_file_but_the_manifest_and_says_who_and_why(
    session: Session, settings: Settings, snapshot: Snapshot
) -> None:
    manifest, by = snapshot.manifest, make_user(session, Role.ADMIN)
    assert len(files_below(settings.snapshots_dir)) >= 6
    withdraw_snapshot(session, snapshot=snapshot, reason=f"  {REASON} ", by_id=by.id, now=NOW)
    assert delete_withdrawn_files(settings, snapshot) > 0
    assert files_below(settings.snapshots_dir) == {f"{snapshot.id}/{MANIFEST_FILE}"}
    assert read_json(settings.snapshots_dir / str(snapshot.id) / MANIFEST_FILE, SnapshotManifest)
    assert (snapshot.state, snapshot.message, snapshot.manifest) == (SnapshotState.WITHDRAWN, REASON, manifest)
    entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "snapshot.withdrawn")).one()
    assert (entry.actor_id, entry.subject_id, entry.details) == (by.id, str(snapshot.id), {"reason": REASON})
    assert delete_withdrawn_files(settings, snapshot) == 0, "it can be done again"
    assert latest_ready(session, Scope.of(snapshot)) is None


@pytest.mark.parametrize("reason", ["", "   too short ", "\u00a0" * 40])
def test_a_snapshot_is_not_withdrawn_without_a_reason(session: Session, snapshot: Snapshot, reason: str) -> None:
    with pytest.raises(Invalid, match="at least 10"):
        withdraw_snapshot(session, snapshot=snapshot, reason=reason, by_id=None, now=NOW)
    assert snapshot.state is SnapshotState.READY


@pytest.mark.parametrize("state", ["waiting", "failed", "withdrawn"])
def test_only_what_is_ready_can_be_withdrawn(session: Session, snapshot: Snapshot, state: str) -> None:
    session.execute(text("UPDATE snapshots SET state = :state"), {"state": state})
    with pytest.raises(Conflict, match="Only a snapshot that is ready"):
        withdraw_snapshot(session, snapshot=snapshot, reason=REASON, by_id=None, now=NOW)


def test_a_folder_of_another_database_is_left_alone(session: Session, settings: Settings, snapshot: Snapshot) -> None:
    withdraw_snapshot(session, snapshot=snapshot, reason=REASON, by_id=None, now=NOW)
    there = files_below(settings.snapshots_dir)
    session.execute(text("UPDATE snapshots SET rows_sha256 = 'of another'"))
    session.refresh(snapshot)
    assert withdrawn_files(settings, snapshot) == []
    assert delete_withdrawn_files(settings, snapshot) == 0
    assert files_below(settings.snapshots_dir) == there


def test_a_run_under_way_on_it_is_called_off(session: Session, session_factory: Sessions, settings: Settings) -> None:
    world = build_world(session, session_factory, settings)
    session.execute(text("UPDATE runs SET state = 'running'"))
    assert cancel_runs_on_withdrawn(session, now=NOW) == 0
    withdraw_snapshot(session, snapshot=session.merge(world.snapshot), reason=REASON, by_id=None, now=NOW)
    jobs = session.scalars(text("SELECT task_name FROM procrastinate_jobs")).all()
    assert {"datasets:carry_out_withdrawals", "training:cancel_withdrawn"} <= set(jobs)
    assert cancel_runs_on_withdrawn(session, now=NOW) == 1
    run = session.get_one(Run, world.run.id, populate_existing=True)
    assert (run.state, run.cancel_requested) == (RunState.RUNNING, True), "the trainer is told by its worker"


def test_the_page_asks_for_a_reason_and_then_gives_nothing_away(
    session: Session, settings: Settings, signed_in: SignedIn, snapshot: Snapshot
) -> None:
    manager = make_user(session, Role.MANAGER)
    assert snapshot.campaign is not None
    enrol(session, manager, snapshot.campaign, judges=False, access=Access.MANAGE)
    session.commit()
    browser, address = signed_in(manager), f"/snapshots/{snapshot.id}"
    assert "Withdraw this snapshot" in browser.get(address).text
    refused = browser.post(f"{address}/withdrawal", data={"reason": "no"})
    assert refused.status_code == 422
    assert "at least 10 characters" in refused.text
    done = browser.post(f"{address}/withdrawal", data={"reason": REASON})
    assert (done.status_code, done.headers["location"]) == (303, address)
    page = browser.get(address).text
    assert REASON in page
    assert "Withdraw this snapshot" not in page
    for path in ("folder.zip", "trl-preference.train.jsonl", "trl-preference.eval.jsonl"):
        answer = browser.get(f"{address}/{path}")
        assert answer.status_code == 404, path
        assert "withdrawn" in answer.text
    assert files_below(settings.snapshots_dir), "and even before the worker deleted the files"


def test_whoever_only_reads_a_campaign_cannot_withdraw_its_snapshots(
    session: Session, signed_in: SignedIn, snapshot: Snapshot
) -> None:
    reader = make_user(session, Role.RESEARCHER)
    assert snapshot.campaign is not None
    enrol(session, reader, snapshot.campaign, judges=False, access=Access.RESEARCH)
    session.commit()
    browser = signed_in(reader)
    assert "Withdraw this snapshot" not in browser.get(f"/snapshots/{snapshot.id}").text
    assert browser.post(f"/snapshots/{snapshot.id}/withdrawal", data={"reason": REASON}).status_code == 403
    assert io.BytesIO(browser.get(f"/snapshots/{snapshot.id}/folder.zip").content).read(2) == b"PK"
