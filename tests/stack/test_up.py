"""`palate up` from the terminal's side: one command, clear words, and nothing lost when its plug is pulled."""

import re
import socket
import time
from pathlib import Path

import httpx
import psutil
import pytest

from app.errors import Unavailable
from app.stack.up import refuse_full_disk
from tests.e2e.conftest import RunningPalate, start_palate, stop_palate

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("up")]


def descendants(palate: RunningPalate) -> list[psutil.Process]:
    return psutil.Process(palate.process.pid).children(recursive=True)


def postgres_of(palate: RunningPalate) -> psutil.Process:
    return psutil.Process(int((palate.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0]))


def wait_gone(processes: list[psutil.Process], seconds: float = 20) -> None:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    assert not alive, f"still running: {alive}"


def test_up_prints_an_address_and_a_link_survives_kill_9_and_stops_in_order(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data")
    assert palate.first_admin_link, "the first start prints a link for the first admin"
    assert httpx.get(f"{palate.address}/sign-in").status_code == 200

    second = palate.command("up")
    assert second.returncode == 1
    assert re.search(r"Port \d+ on 127.0.0.1 is taken by another program", second.stderr)
    beside = palate.command("up", "--port", "1")
    assert "Another `palate up` is using" in beside.stderr or "Permission" in beside.stderr

    invited = palate.command("user", "invite", "somebody@example.org")
    assert re.search(r"http://127.0.0.1:\d+/links/\S+", invited.stdout), invited.stderr

    children, postgres = descendants(palate), postgres_of(palate)
    palate.process.kill()
    palate.process.wait()
    wait_gone(children)
    assert postgres.is_running(), "the embedded PostgreSQL outlives its parent"

    again = start_palate(tmp_path / "data")
    assert postgres_of(again).pid == postgres.pid, "the next start adopts it"
    everything = [*descendants(again), postgres_of(again)]
    stop_palate(again)
    assert again.process.returncode == 0
    wait_gone(everything)


def test_a_killed_child_is_back_within_seconds(tmp_path: Path) -> None:
    palate = start_palate(tmp_path / "data")
    web = next(child for child in descendants(palate) if "web" in child.cmdline())
    web.kill()
    deadline = time.monotonic() + 20
    while True:
        try:
            assert httpx.get(f"{palate.address}/healthz").json() == {"status": "alive"}
            break
        except httpx.HTTPError:
            assert time.monotonic() < deadline, "the pages did not come back"
            time.sleep(0.1)
    stop_palate(palate)


def test_a_taken_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(pytest.fail.Exception, match=r"taken by another program"):
            start_palate(tmp_path / "data", port=port)
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_full_disk_is_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.stack.up.LEAST_FREE_BYTES", 10**18)
    with pytest.raises(Unavailable, match=r"Free some space, or set PALATE_DATA_DIR to another disk"):
        refuse_full_disk(tmp_path)
