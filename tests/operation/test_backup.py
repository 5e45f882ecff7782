"""Everything in one file, and back again on an empty machine."""

import hashlib
import tarfile
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text

from app.database import driver_url, libpq_url, make_engine, make_session_factory
from app.deployments.models import ModelVersion
from app.errors import Conflict, Invalid, NotFound
from app.operation.backup import back_up, restore
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.comparisons import make_comparison
from tests.factories.desks import make_desk


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with what is worth keeping and what is not."""
    folder = tmp_path / "before"
    for name in ("secret-key", "runs/1/model/model.safetensors", "runs/1/checkpoints/step-1/state", "logs/web.log"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


@pytest.fixture
def filled(fresh_database: str, data_dir: Path) -> str:
    """A database with judgments, and a version whose weights lie in the data folder."""
    engine = make_engine(fresh_database)
    with make_session_factory(engine).begin() as session:
        campaign = make_campaign(session)
        desk = make_desk(session, campaign)
        for _ in range(3):
            make_comparison(session, campaign)
            desk.judge(desk.take())
        version = session.query(ModelVersion).first()
        assert version is not None
        version.path = str(data_dir / "runs/1/model")
    engine.dispose()
    return fresh_database


def contents(address: str) -> dict[str, str]:
    """A hash of the rows of every table."""
    with psycopg.connect(libpq_url(address)) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            table: hashlib.sha256(
                repr(sorted(connection.execute(f'SELECT t::text FROM "{table}" AS t').fetchall())).encode()  # type: ignore[call-overload]
            ).hexdigest()
            for (table,) in tables
        }


def test_a_restored_installation_has_every_row_and_file(
    filled: str, data_dir: Path, empty_database: str, tmp_path: Path
) -> None:
    copied = back_up(filled, data_dir=data_dir, to=tmp_path / "b.tar", now=NOW)
    assert copied.files == 3, "the dump, the key, the weights"
    after = tmp_path / "after"
    after.mkdir()
    restore(tmp_path / "b.tar", database_url=empty_database, data_dir=after)
    before, now = contents(filled), contents(empty_database)
    assert {table for table in before if before[table] != now[table]} == {"model_versions"}, "whose path moved"
    assert len(before) > 20
    engine = create_engine(driver_url(empty_database))
    with engine.connect() as connection:
        paths = connection.scalars(text("SELECT path FROM model_versions")).all()
    engine.dispose()
    assert str(after / "runs/1/model") in paths
    kept = sorted(str(path.relative_to(after)) for path in after.rglob("*") if path.is_file())
    assert kept == ["runs/1/model/model.safetensors", "secret-key"]
    assert (after / "secret-key").read_text() == "content of secret-key"


def test_new_rows_get_new_ids_after_a_restore(filled: str, data_dir: Path, empty_database: str, tmp_path: Path) -> None:
    back_up(filled, data_dir=data_dir, to=tmp_path / "b.tar", now=NOW)
    (tmp_path / "after").mkdir()
    restore(tmp_path / "b.tar", database_url=empty_database, data_dir=tmp_path / "after")
    engine = make_engine(empty_database)
    with make_session_factory(engine).begin() as session:
        assert make_campaign(session).id > 1
    engine.dispose()


def test_a_backup_is_never_written_over(filled: str, data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("yesterday's")
    with pytest.raises(Conflict, match="never written over"):
        back_up(filled, data_dir=data_dir, to=tmp_path / "b.tar", now=NOW)
    assert (tmp_path / "b.tar").read_text() == "yesterday's"


def test_what_is_there_is_never_restored_over(filled: str, data_dir: Path, empty_database: str, tmp_path: Path) -> None:
    back_up(filled, data_dir=data_dir, to=tmp_path / "b.tar", now=NOW)
    with pytest.raises(Conflict, match="empty folder"):
        restore(tmp_path / "b.tar", database_url=empty_database, data_dir=data_dir)
    (tmp_path / "after").mkdir()
    with pytest.raises(Conflict, match="database holds tables"):
        restore(tmp_path / "b.tar", database_url=filled, data_dir=tmp_path / "after")


@pytest.mark.parametrize("harm", ["cut", "changed", "other"])
def test_a_damaged_backup_changes_nothing(
    filled: str, data_dir: Path, empty_database: str, tmp_path: Path, harm: str
) -> None:
    backup, after = tmp_path / "b.tar", tmp_path / "after"
    back_up(filled, data_dir=data_dir, to=backup, now=NOW)
    after.mkdir()
    if harm == "cut":
        backup.write_bytes(backup.read_bytes()[:-20_000])
    elif harm == "changed":
        backup.write_bytes(backup.read_bytes().replace(b"content of secret-key", b"content of secret-kez"))
    else:
        with tarfile.open(backup, "w") as archive:
            archive.add(data_dir / "secret-key", arcname="notes.txt")
    with pytest.raises(Invalid, match="othing was changed"):
        restore(backup, database_url=empty_database, data_dir=after)
    assert contents(empty_database) == {}
    assert list(after.iterdir()) == []


def test_a_missing_backup_is_said(empty_database: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        restore(tmp_path / "nowhere.tar", database_url=empty_database, data_dir=tmp_path)
