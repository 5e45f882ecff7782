"""What a run leaves behind while it is under way: its lock, its metrics, how far it has come; and its orders."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from trainer.contract.base import Contract
from trainer.contract.files import read_json, write_json
from trainer.contract.run import (
    CHECKPOINTS_FOLDER,
    CONTROL_FILE,
    LOCK_FILE,
    METRICS_FILE,
    Command,
    Control,
    MetricsRow,
    Stage,
)
from trainer.errors import TrainerError
from trainer.pace import Pace

log = logging.getLogger(__name__)

PROGRESS_FILE = "progress.json"
PAUSE_POLL_SECONDS = 0.2

STAGE_SPANS: dict[Stage, tuple[float, float]] = {
    Stage.LOADING: (0.0, 0.03),
    Stage.BEFORE: (0.03, 0.2),
    Stage.REFERENCE: (0.2, 0.25),
    Stage.TRAINING: (0.25, 0.8),
    Stage.AFTER: (0.8, 0.97),
    Stage.WRITING: (0.97, 1.0),
}
"""Which part of the progress bar each stage fills."""


class RunBusyError(TrainerError):
    """Another trainer holds the run."""


class RunCancelled(Exception):
    """Someone asked for the run to be cancelled."""


class RunInterrupted(Exception):
    """The trainer was told to leave; the run goes on when it is started again."""


def say(message: str) -> None:
    """Tell whoever started the trainer; its standard output is the run's log."""
    log.info(message)


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder; the lock goes with the process, however it ends. Raises RunBusyError if held."""
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RunBusyError(
                f"Another trainer (process {holder}) holds the run in {folder}. Leave it to that one."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


class Progress(Contract):
    """`checkpoints/progress.json`: what of a run's history outlives a kill."""

    started_at: datetime
    resumed: int = 0
    seconds: dict[str, float] = Field(default_factory=dict)


class Recorder:
    """Writes `metrics.jsonl`, heeds `control.json`, and keeps the time of each stage across restarts.

    `must_leave` is asked wherever the run may be interrupted: whether the trainer was told to leave.
    """

    def __init__(
        self, folder: Path, *, say: Callable[[str], None], must_leave: Callable[[], bool] = lambda: False
    ) -> None:
        self._folder = folder
        self._say = say
        self._must_leave = must_leave
        self._progress_path = folder / CHECKPOINTS_FOLDER / PROGRESS_FILE
        self._progress_path.parent.mkdir(exist_ok=True)
        self._progress = self._taken_up()
        self._stage = Stage.LOADING
        self._stage_started = time.monotonic()
        self._paused_seconds = 0.0
        self._share = 0.0
        self.step = 0
        self.tokens = 0
        self.pace = Pace()
        mend_last_line(folder / METRICS_FILE)

    def _taken_up(self) -> Progress:
        if self._progress_path.is_file():
            before = read_json(self._progress_path, Progress)
            progress = before.model_copy(update={"resumed": before.resumed + 1})
        else:
            progress = Progress(started_at=datetime.now(UTC))
        write_json(self._progress_path, progress)
        return progress

    @property
    def started_at(self) -> datetime:
        """When the run was first started."""
        return self._progress.started_at

    @property
    def resumed(self) -> int:
        """How many times the run was taken up again."""
        return self._progress.resumed

    @property
    def seconds(self) -> dict[str, float]:
        """Wall time per stage in all starts together, pauses left out."""
        spent = dict(self._progress.seconds)
        spent[self._stage] = spent.get(self._stage, 0.0) + self._stage_seconds()
        return spent

    def _stage_seconds(self) -> float:
        return time.monotonic() - self._stage_started - self._paused_seconds

    @contextmanager
    def stage(self, stage: Stage, message: str) -> Iterator[None]:
        """Everything inside belongs to this stage."""
        self._stage, self._stage_started, self._paused_seconds = stage, time.monotonic(), 0.0
        self.heed_control()
        self.row(0.0, message=message)
        try:
            yield
        finally:
            self.keep_time()

    def keep_time(self) -> None:
        """Make the seconds spent so far outlive a kill."""
        self._progress = self._progress.model_copy(update={"seconds": self.seconds})
        self._stage_started, self._paused_seconds = time.monotonic(), 0.0
        write_json(self._progress_path, self._progress)

    def row(self, share: float, *, message: str | None = None, **figures: Any) -> None:
        """Add a line to the metrics; `share` (0 to 1) is how much of the present stage is done."""
        self._share = share
        self.step, self.tokens = figures.get("step", self.step), figures.get("tokens", self.tokens)
        first, last = STAGE_SPANS[self._stage]
        fraction = min(1.0, first + (last - first) * min(1.0, share))
        figures |= self.pace.figures(self._stage, share, self.seconds, figures)
        line = MetricsRow(at=datetime.now(UTC), stage=self._stage, fraction=fraction, message=message, **figures)
        with (self._folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")
        if message:
            self._say(message)

    def tick(self, share: float) -> None:
        """A row for the progress bar alone, and a chance to be paused, cancelled or interrupted."""
        self.heed_control()
        self.row(share)

    def heed_control(self) -> None:
        """Return at once, or when no longer paused. Raises RunCancelled, or RunInterrupted."""
        paused_at: float | None = None
        while (command := self._command()) is Command.PAUSE and not self._must_leave():
            if paused_at is None:
                paused_at = time.monotonic()
                self.row(self._share, message="Paused.")
            time.sleep(PAUSE_POLL_SECONDS)
        if paused_at is not None:
            self._paused_seconds += time.monotonic() - paused_at
        if command is Command.CANCEL:
            raise RunCancelled
        if self._must_leave():
            self.row(self._share, message="Waiting to go on: the trainer was told to leave.")
            raise RunInterrupted
        if paused_at is not None:
            self.row(self._share, message="Going on.")

    def _command(self) -> Command:
        path = self._folder / CONTROL_FILE
        try:
            return read_json(path, Control).command
        except FileNotFoundError:
            return Command.RUN
        except ValueError:
            self._say(f"{path} is not understood; going on.")
            return Command.RUN


def mend_last_line(path: Path) -> None:
    """Cut off what a kill left of a line half written."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        data = file.read()
        if not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
