"""Children of the stack: watched, restarted with growing waits, stopped in order, never orphaned."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import Conflict
from app.stack import processes
from app.stack.ports import free_port, refuse_taken_port
from app.stack.processes import Child, ChildState


def child(folder: Path, code: str) -> Child:
    return Child("probe", [sys.executable, "-c", code], dict(os.environ), folder / "probe.log")


def watch_until(child: Child, holds: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{child.state} after {seconds} s; log: {child.last_words()}"
        child.watch()
        time.sleep(0.02)


def test_a_crashed_child_is_started_again_after_a_growing_wait(tmp_path: Path) -> None:
    crashing = child(tmp_path, "print('going down'); raise SystemExit(3)")
    crashing.start()
    watch_until(crashing, lambda: crashing.crashes == 1)
    assert (crashing.state, crashing.last_exit, crashing.wait_seconds) == (ChildState.RESTARTING, 3, 1.0)
    watch_until(crashing, lambda: crashing.crashes == 2)
    assert crashing.wait_seconds == 2.0
    assert "going down" in crashing.last_words()
    crashing.stop()


def test_a_killed_child_comes_back_as_another_process(tmp_path: Path) -> None:
    steady = child(tmp_path, "import time; time.sleep(60)")
    steady.start()
    first = steady.process
    assert first is not None
    first.kill()
    watch_until(steady, lambda: steady.process is not None and steady.process is not first)
    steady.stop()
    assert steady.state is ChildState.STOPPED


def test_a_child_that_does_not_listen_is_killed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.stack.processes.STOP_SECONDS", 0.3)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    deaf = child(tmp_path, code)
    deaf.start()
    watch_until(deaf, lambda: "deaf" in deaf.last_words())
    process = deaf.process
    assert process is not None
    deaf.stop()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of their parent's death on Linux only")
def test_children_die_with_a_parent_killed_by_9(tmp_path: Path) -> None:
    code = f"""
import time; from pathlib import Path; from app.stack.processes import Child; import os, sys
sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
c = Child("probe", sleeper, dict(os.environ), Path({str(tmp_path)!r}) / "l")
c.start(); print(c.process.pid, flush=True); time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _is_running(grandchild):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_taken_port_is_refused_in_words_that_say_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(Conflict, match=r"taken by another program.*Choose another: `palate up --port"):
            refuse_taken_port("127.0.0.1", other.getsockname()[1])


def test_a_free_port_is_not_refused() -> None:
    refuse_taken_port("127.0.0.1", free_port())


def test_a_log_that_grew_large_is_put_aside_while_its_process_goes_on_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LARGEST_LOG_BYTES", 1_000)
    talker = child(tmp_path, "import time\nwhile True: print('x' * 50, flush=True); time.sleep(0.002)")
    aside = tmp_path / "probe.log.1"

    def is_put_aside() -> bool:
        talker.keep_log_small()
        return aside.exists() and talker.log.stat().st_size > 0

    watch_until(talker, is_put_aside)
    talker.stop()
    assert talker.log.read_text().startswith("x" * 50), "no hole where the old lines were"
