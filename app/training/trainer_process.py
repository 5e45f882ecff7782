"""The trainer as a process: started on a run folder, found running, and as a last resort killed."""

import fcntl
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from app.settings import ROOT
from app.training.launchers import Launcher, OneProcess
from trainer.contract.logs import REQUEST_VARIABLE, request_id
from trainer.contract.run import LOCK_FILE, LOG_FILE

SECRETS = ("PALATE_", "DATABASE_URL", "PG")
"""Beginnings of environment variables that are none of the trainer's business."""
NICENESS = 5
"""How far the trainer stands back where the machine is small: whoever judges, and the models they judge, go first."""
LOOK_SECONDS = 0.05
"""How often a trainer that was sent away is looked after."""


class TrainerProcess:
    """The trainer of one run, whoever started it. It outlives a worker that dies, and another worker finds it again."""

    def __init__(self, folder: Path, launcher: Launcher | None = None) -> None:
        self._folder = folder
        self._launcher = launcher or OneProcess()
        self._started: subprocess.Popen[bytes] | None = None

    def is_alive(self) -> bool:
        """Whether a trainer works on the run: the one started here, or another that holds the run's lock."""
        if self._started is not None and self._started.poll() is None:
            return True
        return is_locked(self._folder / LOCK_FILE)

    def start(self, log_environment: Mapping[str, str] | None = None) -> None:
        """Start the launcher's command in a session of its own, its output at the end of the log."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SECRETS)}
        environment |= log_environment or {}
        if (caused_by := request_id.get()) is not None:
            environment[REQUEST_VARIABLE] = caused_by
        with (self._folder / LOG_FILE).open("ab") as log:
            self._started = subprocess.Popen(
                self._launcher.command(self._folder),
                cwd=ROOT,
                env={**environment, "HF_HUB_OFFLINE": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, self._started.pid, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)

    def send_away(self, *, most_seconds: Callable[[], float]) -> None:
        """Ask the trainer to leave with a checkpoint, and kill it where that takes too long: the run survives both.

        `most_seconds` is asked again and again how long it may take from then on; it is never given more than before.
        """
        self._signal(signal.SIGTERM)
        give_up_at = math.inf
        while self.is_alive() and time.monotonic() < give_up_at:
            give_up_at = min(give_up_at, time.monotonic() + most_seconds())
            time.sleep(LOOK_SECONDS)
        if self.is_alive():
            self.kill()

    def kill(self) -> None:
        """End a trainer that does not listen: what was started here, and whoever holds the run under it."""
        holder = self._holder()
        self._signal(signal.SIGKILL)
        if holder is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(holder, signal.SIGKILL)
        if self._started is not None:
            with suppress(subprocess.TimeoutExpired):
                self._started.wait(timeout=10)

    def let_end(self, seconds: float) -> None:
        """Give a trainer that has written its report a moment to end."""
        if self._started is not None:
            with suppress(subprocess.TimeoutExpired):
                self._started.wait(timeout=seconds)

    def exit_status(self) -> int | None:
        """The exit status of the trainer started here; None while it runs, or where another started it."""
        return self._started.poll() if self._started is not None else None

    def _signal(self, number: signal.Signals) -> None:
        pid = self._started.pid if self._started is not None and self._started.poll() is None else self._holder()
        if pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def _holder(self) -> int | None:
        """The process that holds the lock, as it wrote it there."""
        path = self._folder / LOCK_FILE
        if not is_locked(path):
            return None
        text = path.read_text().strip()
        return int(text) if text.isdigit() else None


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock file; asking takes the lock for an instant, so ask only where nobody starts."""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
