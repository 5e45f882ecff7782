"""Files that mean harm: archives that climb out of their folder or swell, and addresses that do the same."""

import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role
from app.database import libpq_url
from app.errors import Invalid
from app.operation.backup import MANIFEST, restore
from app.settings import ROOT, Settings
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import judge_generated, make_snapshot
from tests.operation.conftest import empty_database

__all__ = ["empty_database"]

CLIMBS = [
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "..\\..\\windows\\win.ini", "....//x",
    "/etc/passwd", "//etc/passwd", "%00", "css/../../app/settings.py", "css/%2e%2e/%2e%2e/app/settings.py",
    "vendor/../../pyproject.toml", "~root/.ssh/id_rsa", "css/base.css%00.txt", "css//../..//pyproject.toml",
]  # fmt: skip


def member(name: str, content: bytes = b"x", **given: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in given.items():
        setattr(info, attribute, value)
    return info, content


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], manifest: object = None) -> Path:
    with tarfile.open(path, "w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
        if manifest is not None:
            archive.addfile(*_told(manifest))
    return path


def _told(manifest: object) -> tuple[tarfile.TarInfo, io.BytesIO]:
    content = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    info = tarfile.TarInfo(MANIFEST)
    info.size = len(content)
    return info, io.BytesIO(content)


WHOLE = {
    "format": 1, "made_at": NOW.isoformat(), "data_dir": "/d", "code_dir": "/c", "models_elsewhere": [], "sha256": {},
}  # fmt: skip

OUTSIDE = Path(tempfile.gettempdir()) / "palate-escaped"
HOSTILE_TARS: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "climbs out": [member("data/../../../escaped")],
    "an absolute path": [member(str(OUTSIDE))],
    "a link out": [member("data/l", b"", type=tarfile.SYMTYPE, linkname="/etc"), member("data/l/escaped")],
    "a hard link out": [member("data/h", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")],
    "a device": [member("data/dev", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5)],
    "a pipe, which would wait for ever": [member("data/pipe", b"", type=tarfile.FIFOTYPE)],
}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty data folder, around which nothing may appear."""
    (tmp_path / "around" / "data").mkdir(parents=True)
    yield tmp_path / "around" / "data"
    assert [path.name for path in (tmp_path / "around").iterdir()] == ["data"]
    assert not OUTSIDE.exists()


def refused(backup: Path, database: str, place: Path) -> str:
    with pytest.raises(Invalid) as refusal:
        restore(backup, database_url=database, data_dir=place)
    assert list(place.iterdir()) == []
    with psycopg.connect(libpq_url(database)) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)
    return refusal.value.message


@pytest.mark.parametrize("kind", HOSTILE_TARS)
def test_a_hostile_backup_writes_nothing_anywhere(empty_database: str, place: Path, tmp_path: Path, kind: str) -> None:
    backup = tar_of(tmp_path / "b.tar", *HOSTILE_TARS[kind], manifest=WHOLE)
    assert "othing was changed" in refused(backup, empty_database, place)


def test_a_backup_that_swells_is_refused_before_it_fills_the_disk(
    empty_database: str, place: Path, tmp_path: Path
) -> None:
    info = tarfile.TarInfo("data/huge")
    info.size = 0
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "data/huge",
        "GNU.sparse.size": str(2**50), "GNU.sparse.numblocks": "1", "GNU.sparse.map": f"{2**50},0",
    }  # fmt: skip
    with tarfile.open(tmp_path / "b.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(b""))
        archive.addfile(*_told(WHOLE))
    assert "othing was changed" in refused(tmp_path / "b.tar", empty_database, place)


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, {"format": "1"}, {"format": 1}, {"format": 2},
        {**WHOLE, "sha256": {"../../../etc/passwd": "0"}}, {**WHOLE, "sha256": {"/etc/passwd": "0"}},
        {**WHOLE, "sha256": {"data/x": "0"}}, {**WHOLE, "sha256": [1]},
        {**WHOLE, "sha256": {"database.dump": 7}}, {**WHOLE, "data_dir": 5}, WHOLE,
    ],
    ids=range(17),
)  # fmt: skip
def test_a_manifest_of_nonsense_is_refused_in_words(
    empty_database: str, place: Path, tmp_path: Path, manifest: object
) -> None:
    assert refused(tar_of(tmp_path / "b.tar", manifest=manifest), empty_database, place)


@pytest.mark.parametrize("path", CLIMBS)
def test_static_files_are_those_below_the_static_folder_alone(visitor: TestClient, path: str) -> None:
    answer = visitor.get(f"/static/{path}")
    assert answer.status_code == 404
    assert b"root:" not in answer.content
    assert b"class Settings" not in answer.content
    assert b"[project]" not in answer.content


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a\r\nSet-Cookie: x=1", '"; x="', "\u202egpj.exe", "é" * 300]
)
def test_a_snapshots_name_becomes_a_plain_file_name(
    session: Session, session_factory: sessionmaker[Session], settings: Settings, signed_in: SignedIn, name: str
) -> None:
    campaign = make_campaign(session)
    judge_generated(session, campaign, "What is rain?")
    snapshot = session.merge(make_snapshot(session_factory, settings, campaign=campaign))
    snapshot.name = name
    session.commit()
    answer = signed_in(make_user(session, Role.ADMIN)).get(f"/snapshots/{snapshot.id}/folder.zip")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].split("=")[1].strip('"').replace("-", "").replace(".", "").isalnum()
    assert "set-cookie" not in answer.headers
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        for entry in archive.namelist():
            assert ".." not in entry
            assert not entry.startswith("/")
            assert entry.count("/") == 1


@pytest.mark.parametrize("split", ["train/../../x", "..%2f..%2fmanifest", "eval%00", "x", "train.jsonl"])
def test_only_the_two_splits_can_be_downloaded(
    session: Session, session_factory: sessionmaker[Session], settings: Settings, signed_in: SignedIn, split: str
) -> None:
    campaign = make_campaign(session)
    judge_generated(session, campaign, "What is rain?")
    snapshot = make_snapshot(session_factory, settings, campaign=campaign)
    browser = signed_in(make_user(session, Role.ADMIN))
    assert browser.get(f"/snapshots/{snapshot.id}/trl-preference.{split}.jsonl").status_code == 404


def test_the_image_of_the_container_takes_no_secrets_along() -> None:
    left_out = (ROOT / ".dockerignore").read_text().split()
    for name in (".git", ".venv", "palate-data"):
        assert any(name in line for line in left_out), f"{name} would go into the image"
