"""The embedded PostgreSQL is started again however it died, and whoever looks after the process that it was."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from app.stack.postgres import EmbeddedKeeper, start_embedded

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def orphans_come_here() -> Iterator[None]:
    """Be the parent of every process whose own has ended, and never ask how it went: as process 1 of a container."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def postmaster(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text().split()[0])


def watch_until_started(keeper: EmbeddedKeeper, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if (said := keeper.watch()) and "started again" in said:
            return
        time.sleep(0.1)
    raise AssertionError(f"not started again within {seconds} s")


def ask_after_orphans() -> None:
    for child in psutil.Process().children():
        if child.name().startswith("postgres"):
            os.waitpid(child.pid, 0)


def answer(address: str) -> object:
    with psycopg.connect(address, connect_timeout=10) as connection:
        return connection.execute("SELECT 1").fetchone()


@pytest.mark.slow
def test_a_killed_server_whose_parent_never_asks_after_it_is_started_again(
    orphans_come_here: None, tmp_path: Path
) -> None:
    folder = tmp_path / "postgres"
    server = start_embedded(folder, cleanup_mode="delete")
    keeper = EmbeddedKeeper(folder)
    killed = postmaster(folder)
    try:
        os.kill(killed, signal.SIGKILL)
        while psutil.Process(killed).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        watch_until_started(keeper)
        assert postmaster(folder) != killed
        assert answer(server.get_uri()) == (1,)
        assert psutil.Process(killed).status() == psutil.STATUS_ZOMBIE, "nobody asked, all the while"
        assert keeper.watch() is None, "one start is enough"
    finally:
        server.cleanup()
        ask_after_orphans()


@pytest.mark.slow
def test_the_number_of_a_server_that_vanished_may_be_anothers_by_now(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    server = start_embedded(folder, cleanup_mode="delete")
    keeper = EmbeddedKeeper(folder)
    killed = postmaster(folder)
    with subprocess.Popen(["sleep", "600"]) as another:
        try:
            os.kill(killed, signal.SIGKILL)
            with suppress(psutil.NoSuchProcess):
                psutil.Process(killed).wait(30)
            for claim in (folder / "postmaster.pid", next(folder.glob(".s.PGSQL.*.lock"))):
                claim.write_text(claim.read_text().replace(f"{killed}\n", f"{another.pid}\n", 1))
            watch_until_started(keeper)
            assert postmaster(folder) not in {killed, another.pid}
            assert answer(server.get_uri()) == (1,)
            assert another.poll() is None, "the other process is left alone"
        finally:
            another.kill()
            server.cleanup()
