"""The clean-up deletes what its rule names, when it names it, and touches nothing else."""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import SignIn
from app.accounts.service.sign_ins import start_sign_in
from app.datasets.models import SnapshotState
from app.datasets.service.withdrawing import withdraw_snapshot
from app.generation.models import ImportState
from app.operation.cleaning import CACHE_KEEPS, FAILED_RUNS_KEEP, leftovers, remove, remove_rows
from app.settings import Settings
from app.training.models import RunState
from app.training.run_folder import write_request
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import judge_generated, make_snapshot
from tests.factories.deployments import make_line, make_version
from tests.factories.generation import make_import
from tests.factories.training import make_run
from tests.training.test_run_folder import request

Sessions = sessionmaker[Session]
DAY = timedelta(days=1)


@pytest.fixture
def run(session: Session, settings: Settings) -> Callable[..., Path]:
    """`run(state)` is the folder of a run in that state, with everything that a trainer may leave in it."""

    def of(state: RunState, *, finished_at: datetime | None = NOW, seed: int = 0) -> Path:
        line = make_line(session)
        given = {"model_version": make_version(session, line)} if state is RunState.SUCCEEDED else {}
        made = make_run(session, line, state=state, finished_at=finished_at, seed=seed, **given)
        folder = settings.runs_dir / str(made.id)
        write_request(folder, request(str(made.id)))
        for name in ("checkpoints/step-3/state.pt", "model/model.safetensors", "metrics.jsonl", "report.json"):
            put(folder / name)
        return folder

    return of


def put(path: Path, *, age: timedelta = timedelta()) -> Path:
    """A file, last touched so long before NOW."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x" * 1000)
    touched = (NOW - age).timestamp()
    os.utime(path, (touched, touched))
    return path


def would_go(session: Session, settings: Settings, *, at: datetime = NOW) -> set[str]:
    return {str(each.path.relative_to(settings.data_dir)) for each in leftovers(session, settings, now=at)}


def test_checkpoints_of_a_run_that_succeeded_go_and_its_model_and_record_stay(
    session: Session, settings: Settings, run: Callable[..., Path]
) -> None:
    folder = run(RunState.SUCCEEDED)
    found = leftovers(session, settings, now=NOW)
    assert [each.path for each in found] == [folder / "checkpoints"]
    assert remove(found) == 1000
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert kept == {"model/model.safetensors", "metrics.jsonl", "report.json", "request.json"}
    assert would_go(session, settings) == set()


def test_a_cancelled_run_loses_checkpoints_and_half_a_model_at_once_a_failed_one_after_a_week(
    session: Session, settings: Settings, run: Callable[..., Path]
) -> None:
    cancelled, failed = run(RunState.CANCELLED), run(RunState.FAILED)
    heavy = {f"runs/{cancelled.name}/checkpoints", f"runs/{cancelled.name}/model"}
    assert would_go(session, settings, at=NOW + FAILED_RUNS_KEEP - timedelta(seconds=1)) == heavy
    heavy |= {f"runs/{failed.name}/checkpoints", f"runs/{failed.name}/model"}
    assert would_go(session, settings, at=NOW + FAILED_RUNS_KEEP) == heavy


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.RUNNING])
def test_nothing_of_a_run_under_way_goes_however_old(
    session: Session, settings: Settings, run: Callable[..., Path], state: RunState
) -> None:
    run(state, finished_at=None)
    put(settings.data_dir / "reference-cache" / "table.json", age=400 * DAY)
    assert would_go(session, settings, at=NOW + 1000 * DAY) == set()


def test_run_folders_of_another_database_or_of_nobody_are_left_alone(
    session: Session, settings: Settings, run: Callable[..., Path]
) -> None:
    run(RunState.CANCELLED, seed=7)  # the request in the folder says 0
    put(settings.runs_dir / "999" / "checkpoints" / "step-1" / "state.pt", age=900 * DAY)
    put(settings.runs_dir / "notes" / "model" / "model.safetensors", age=900 * DAY)
    assert would_go(session, settings, at=NOW + 1000 * DAY) == set()


def test_a_cache_goes_once_no_run_has_used_it_for_a_month(session: Session, settings: Settings) -> None:
    put(settings.data_dir / "reference-cache" / "ab" / "old.json", age=CACHE_KEEPS + DAY)
    put(settings.data_dir / "reference-cache" / "ab" / "young.json", age=CACHE_KEEPS - DAY)
    assert would_go(session, settings) == {"reference-cache/ab/old.json"}


def test_uploads_go_when_their_import_is_over_or_was_never_begun(session: Session, settings: Settings) -> None:
    campaign = make_campaign(session)
    by_state = {state: make_import(session, campaign, state=state) for state in ImportState}
    for record in by_state.values():
        put(settings.data_dir / "uploads" / f"import-{record.id}", age=30 * DAY)
    put(settings.data_dir / "uploads" / "import-99998", age=2 * DAY)
    put(settings.data_dir / "uploads" / "import-99999", age=timedelta(hours=1))
    over = {by_state[ImportState.DONE].id, by_state[ImportState.FAILED].id, 99998}
    assert would_go(session, settings) == {f"uploads/import-{number}" for number in over}


def test_drafts_go_a_day_after_anybody_touched_them(session: Session, settings: Settings) -> None:
    for name in ("snapshots/.4.part/judgments.parquet", "snapshots/.4.lock", "runs/4/.model.part/x", ".restore-x/d"):
        put(settings.data_dir / name, age=2 * DAY)
    for folder in ("snapshots/.4.part", "runs/4/.model.part", ".restore-x"):
        os.utime(settings.data_dir / folder, (0, 0))
    put(settings.data_dir / "snapshots/.5.part/judgments.parquet")
    drafts = {"snapshots/.4.part", "snapshots/.4.lock", "runs/4/.model.part", ".restore-x"}
    assert would_go(session, settings) == drafts


def test_files_of_a_withdrawn_snapshot_go_and_all_others_stay(
    session: Session, session_factory: Sessions, settings: Settings
) -> None:
    campaign = make_campaign(session)
    judge_generated(session, campaign, "What is rain?")
    taken_back, kept = (session.merge(make_snapshot(session_factory, settings, campaign=campaign)) for _ in range(2))
    assert would_go(session, settings, at=NOW + 1000 * DAY) == set()
    withdraw_snapshot(session, snapshot=taken_back, reason="Asked for by its authors.", by_id=None, now=NOW)
    remove(leftovers(session, settings, now=NOW))
    assert [path.name for path in (settings.snapshots_dir / str(taken_back.id)).iterdir()] == ["manifest.json"]
    assert (settings.snapshots_dir / str(kept.id) / "judgments.parquet").is_file()
    assert kept.state is SnapshotState.READY


def test_a_link_is_never_followed_out_of_the_data_folder(session: Session, settings: Settings, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "precious", age=900 * DAY)
    uploads = settings.data_dir / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "import-5").symlink_to(outside)
    (settings.data_dir / "reference-cache").mkdir()
    (settings.data_dir / "reference-cache" / "link").symlink_to(outside.parent)
    remove(leftovers(session, settings, now=NOW + 1000 * DAY))
    assert outside.is_file()


def test_rows_that_mean_nothing_any_more_go(session: Session) -> None:
    user = make_user(session)
    for lasts in (timedelta(days=1), timedelta(days=30)):
        start_sign_in(session, user=user, user_agent="", lasts=lasts, now=NOW)
    for name, status, age in (("old", "failed", 40), ("old, waiting", "todo", 40), ("young", "failed", 2)):
        given = {"name": name, "status": status, "at": NOW - age * DAY}
        session.execute(text("INSERT INTO procrastinate_jobs (task_name, queue_name) VALUES (:name, 'default')"), given)
        session.execute(text("UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = :name"), given)
        session.execute(
            text(
                "UPDATE procrastinate_jobs SET status = CAST(:status AS procrastinate_job_status) "
                "WHERE task_name = :name"
            ),
            given,
        )
        session.execute(
            text(
                "UPDATE procrastinate_events SET at = :at "
                "WHERE job_id = (SELECT id FROM procrastinate_jobs WHERE task_name = :name)"
            ),
            given,
        )
    remove_rows(session, now=NOW + 2 * DAY)
    assert session.query(SignIn).count() == 1
    assert set(session.scalars(text("SELECT task_name FROM procrastinate_jobs"))) == {"old, waiting", "young"}
