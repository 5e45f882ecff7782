"""A copy taken while people judge and a run trains, and what becomes of both where it is restored."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from app.background import WorkerStopping
from app.clock import utc_now
from app.database import libpq_url, make_engine, make_session_factory
from app.deployments.models import ModelVersion
from app.operation.backup import back_up, restore
from app.training.carrying_out import carry_out
from app.training.models import RunState
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.load import Judging
from tests.training.conftest import LONG, Shop, meanwhile, shop, steps_taken, tiny_base
from tests.training.test_carrying_out import numbers_of, undisturbed
from trainer.contract.files import read_json
from trainer.contract.report import Report
from trainer.contract.run import REPORT_FILE

__all__ = ["shop", "tiny_base"]


@pytest.mark.race
def test_every_judgment_acknowledged_before_the_backup_is_in_it_and_every_count_agrees(
    fresh_database: str, empty_database: str, tmp_path: Path
) -> None:
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    with sessions.begin() as session:
        campaign_id = make_campaign(session).id
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    judging = Judging.in_campaign(sessions, campaign_id, comparisons=600)
    with judging:
        judging.wait_for(50)
        acknowledged = set(judging.acknowledged)
        back_up(fresh_database, data_dir=before, to=tmp_path / "b.tar", now=NOW)
        judging.wait_for(1)
    engine.dispose()
    assert judging.failures == []
    restore(tmp_path / "b.tar", database_url=empty_database, data_dir=after)
    with psycopg.connect(libpq_url(empty_database)) as connection:
        stored = {row[0] for row in connection.execute("SELECT id FROM judgments")}
        (filled,) = connection.execute("SELECT count(*) FROM slots WHERE judgment_id IS NOT NULL").fetchone() or ()
        (halves,) = connection.execute(
            """SELECT count(*) FROM judgments JOIN assignments ON assignments.id = judgments.assignment_id
               WHERE assignments.state = 'open'"""
        ).fetchone() or (1,)
    assert acknowledged <= stored
    assert stored <= set(judging.acknowledged)
    assert (filled, halves) == (len(stored), 0), "no judgment without its slot, none half recorded"


@contextmanager
def moved(shop: Shop, *, database: str, data_dir: Path) -> Iterator[Shop]:
    """The same shop on another machine."""
    engine = make_engine(database)
    settings = shop.place.settings.model_copy(update={"data_dir": data_dir})
    sessions = make_session_factory(engine)
    place = replace(shop.place, settings=settings, session_factory=sessions, clock=utc_now, stopping=threading.Event())
    yield Shop(place, shop.line_id)
    engine.dispose()


@pytest.mark.slow
def test_a_run_under_way_at_the_backup_goes_on_where_it_is_restored(
    shop: Shop, fresh_database: str, empty_database: str, tiny_base: Path, tmp_path: Path
) -> None:
    before, after, backup = shop.place.settings.data_dir, tmp_path / "elsewhere" / "data", tmp_path / "b.tar"
    after.mkdir(parents=True)
    keep_base_in(shop, before / "models" / "tiny")
    run_id = shop.ask(LONG)

    def copy_then_stop() -> bool:
        if steps_taken(shop.folder(run_id)) < 20:
            return False
        back_up(fresh_database, data_dir=before, to=backup, now=NOW)
        shop.place.stopping.set()
        return True

    with meanwhile(copy_then_stop), pytest.raises(WorkerStopping):
        carry_out(shop.place, run_id=run_id, poll_seconds=0.2)
    shutil.rmtree(before)
    restore(backup, database_url=empty_database, data_dir=after)
    with moved(shop, database=empty_database, data_dir=after) as there:
        carry_out(there.place, run_id=run_id, poll_seconds=0.2)
        run = there.run(run_id)
        assert run.state is RunState.SUCCEEDED, run.message
        assert run.model_version is not None
        assert Path(run.model_version.path).is_relative_to(after)
    report = read_json(after / "runs" / str(run_id) / REPORT_FILE, Report)
    assert numbers_of(report) == numbers_of(undisturbed(after / "runs" / str(run_id)))


def keep_base_in(shop: Shop, folder: Path) -> None:
    """Have the line's base lie in the data folder, so that it moves with it."""
    with shop.session() as session:
        version = session.query(ModelVersion).filter_by(line_id=shop.line_id).one()
        shutil.copytree(version.path, folder)
        version.path = str(folder)
