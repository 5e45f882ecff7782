"""Child processes: started, watched, restarted with backoff when they crash, and stopped in order.

On Linux a child is told by the kernel when its parent dies, so that `kill -9` of `palate up` leaves no
process behind that would hold a port.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
"""Short enough that whatever crashes for a passing reason is back within half a minute."""
CALM_SECONDS = 20.0
"""A child that lived this long starts over with the shortest wait."""
LARGEST_LOG_BYTES = 20_000_000
STOP_SECONDS = 8.0
"""How long a child may take to stop before it is killed."""


class ChildState(StrEnum):
    """What the person at the terminal is told of a child."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


@dataclass
class Child:
    """One process of the stack."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    ready_url: str | None = None
    """Answers 200 once the child is ready; without one it is ready when it runs."""
    process: subprocess.Popen[bytes] | None = None
    state: ChildState = ChildState.STOPPED
    crashes: int = 0
    started_at: float = 0.0
    next_start_at: float = 0.0
    last_exit: int | None = None
    wait_seconds: float = field(default=FIRST_WAIT_SECONDS)

    def start(self) -> None:
        """Start the process, its output appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops the others in order
                preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        self.started_at = time.monotonic()
        self.state = ChildState.STARTING

    def watch(self) -> None:
        """Look once: notice a crash, start again when its wait is over, notice readiness."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.next_start_at:
                self.start()
            return
        exit_code = self.process.poll()
        if exit_code is not None:
            self._note_crash(exit_code, now)
        elif self.state is ChildState.STARTING and self._answers():
            self.state = ChildState.READY

    def keep_log_small(self) -> None:
        """Put a log that has grown large aside, over the one put aside before; the process goes on writing to it."""
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
            os.truncate(self.log, 0)

    def _note_crash(self, exit_code: int, now: float) -> None:
        if now - self.started_at > CALM_SECONDS:
            self.wait_seconds = FIRST_WAIT_SECONDS
        self.process = None
        self.crashes += 1
        self.last_exit = exit_code
        self.next_start_at = now + self.wait_seconds
        self.wait_seconds = min(2 * self.wait_seconds, LONGEST_WAIT_SECONDS)
        self.state = ChildState.RESTARTING

    def _answers(self) -> bool:
        if self.ready_url is None:
            return True
        try:
            return httpx.get(self.ready_url, timeout=1.0).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def stop(self) -> None:
        """Ask politely, then insist."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        self.state = ChildState.STOPPED

    def last_words(self, lines: int = 8) -> str:
        """The end of the log, for a person to read after a crash."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent does (Linux, prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() == 1:  # the parent died before the request was in place
        os.kill(os.getpid(), signal.SIGTERM)
