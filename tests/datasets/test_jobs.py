"""What the worker does for datasets, through the jobs' own entry points."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.background import Workplace
from app.campaigns.models import Campaign
from app.database import make_engine
from app.datasets import jobs
from app.datasets.models import Snapshot, SnapshotState
from app.datasets.service.snapshots import request_snapshot
from app.datasets.service.uploads import receive_comparisons
from app.generation.models import Import, ImportState
from app.generation.service.uploads import upload_path
from app.settings import Settings
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import house, import_lines, write_lines
from trainer.contract.snapshot import SnapshotPolicy

Sessions = sessionmaker[Session]


@pytest.fixture
def campaign(session: Session) -> Campaign:
    campaign = make_campaign(session)
    session.commit()
    return campaign


def run(job: Any, session_factory: Sessions, settings: Settings, **arguments: Any) -> None:
    """Run a task as the worker does."""
    place = Workplace(settings=settings, session_factory=session_factory, clock=lambda: NOW)
    job.func(SimpleNamespace(additional_context={"workplace": place}), **arguments)


def requested(session_factory: Sessions, campaign: Campaign) -> int:
    with session_factory.begin() as session:
        return request_snapshot(
            session, line_id=None, campaign_id=campaign.id, policy=SnapshotPolicy(), by_id=None, now=NOW
        ).id


def test_a_requested_snapshot_is_written(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    import_lines(session_factory, campaign, [house("Why?", "1>2")], tmp_path)
    snapshot_id = requested(session_factory, campaign)
    for _ in range(2):
        run(jobs.freeze_snapshot, session_factory, settings, snapshot_id=snapshot_id)
    with session_factory() as session:
        assert session.get_one(Snapshot, snapshot_id).state is SnapshotState.READY


def test_what_nobody_foresaw_is_said_on_the_snapshots_page(
    session_factory: Sessions,
    settings: Settings,
    campaign: Campaign,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_lines(session_factory, campaign, [house("Why?", "1>2")], settings.data_dir)
    snapshot_id = requested(session_factory, campaign)

    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(jobs, "freeze", explode)
    with pytest.raises(ZeroDivisionError):
        run(jobs.freeze_snapshot, session_factory, settings, snapshot_id=snapshot_id)
    with session_factory() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        assert (snapshot.state, snapshot.message) == (SnapshotState.FAILED, jobs.BROKE_OFF)


def test_an_uploaded_file_is_loaded_and_let_go(
    session_factory: Sessions, settings: Settings, campaign: Campaign, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "lines.jsonl", [house("Why?", "1>2")], packed=True)
    with session_factory.begin() as session, path.open("rb") as content:
        import_id = receive_comparisons(
            session,
            settings=settings,
            campaign=session.get_one(Campaign, campaign.id),
            filename="lines.jsonl.gz",
            content=content,
            by_id=None,
            now=NOW,
        ).id
    uploaded = upload_path(settings, import_id=import_id)
    assert uploaded.exists()
    for _ in range(2):
        run(jobs.import_comparisons, session_factory, settings, import_id=import_id)
        assert not uploaded.exists()
    with session_factory() as session:
        record = session.get_one(Import, import_id)
        assert (record.state, record.counts["added"]) == (ImportState.DONE, 1)


@pytest.mark.race
def test_two_that_want_the_same_snapshot_at_once_write_it_once(
    fresh_database: str, settings: Settings, tmp_path: Path
) -> None:
    engine = make_engine(fresh_database)
    factory = sessionmaker(engine)
    with factory.begin() as session:
        campaign = make_campaign(session)
        session.expunge_all()
    import_lines(factory, campaign, [house(f"{n}?", "1>2") for n in range(300)], tmp_path)
    snapshot_id = requested(factory, campaign)
    failures: list[Exception] = []

    def freeze() -> None:
        try:
            run(jobs.freeze_snapshot, factory, settings, snapshot_id=snapshot_id)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=freeze) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with factory() as session:
        snapshot = session.get_one(Snapshot, snapshot_id)
        assert (failures, snapshot.state) == ([], SnapshotState.READY)
    assert {path.name for path in settings.snapshots_dir.iterdir()} == {str(snapshot_id), f"{snapshot_id}-exports"}
    engine.dispose()
