"""The app's side of a run folder: writing the request and orders, reading what the trainer leaves."""

import fcntl
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from app.errors import Conflict
from app.training.warning_signs import is_evaluation
from app.wording import gettext as _
from trainer.contract.files import read_json, write_json, write_whole
from trainer.contract.logs import JsonLines, TextLines, is_json, readable
from trainer.contract.run import (
    CONTROL_FILE,
    METRICS_FILE,
    REQUEST_FILE,
    SAMPLES_FILE,
    Command,
    Control,
    MetricsRow,
    RunRequest,
    Stage,
)
from trainer.contract.watching import WatchedSamples

STARTS_FILE = "starts.json"
CHART_ROWS = 160
"""Rows kept for a run's charts: about as many as a screen can tell apart."""
KEPT_EVALUATIONS = 12
"""Evaluations whose samples the run's page shows; see docs/training.md, "While it trains"."""
LOG_CHARACTERS = 8_000


def write_request(folder: Path, request: RunRequest) -> None:
    """Write the request once; one that is there already is what the run goes on with, wherever things lie by now.

    Raises Conflict where the folder belongs to another run, as after the database alone was made anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REQUEST_FILE
    if not path.exists():
        write_json(path, request)
        return
    found = read_json(path, RunRequest)
    if _what_is_trained(found) != _what_is_trained(request):
        raise Conflict(
            _(
                "%(folder)s holds another run (%(version_name)s). Move it away and start a new run.",
                folder=folder,
                version_name=found.version_name,
            )
        )
    here = found.model_copy(update={name: getattr(request, name) for name in PLACES})
    if here != found:
        write_json(path, here)


PLACES = ("snapshot", "base_model", "start", "reference", "reward_model", "reference_cache")
"""What of a request names folders, which a restored installation has elsewhere."""


def _what_is_trained(request: RunRequest) -> tuple[object, ...]:
    """What tells two runs apart, whatever their folders."""
    models = (request.base_model, request.start, request.reference)
    return request.run_id, request.seed, request.snapshot.rows_sha256, *((model.name, model.sha256) for model in models)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock file, waiting for whoever holds it; it is free again with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def give_order(folder: Path, command: Command) -> None:
    """Tell the trainer what to do after the step that it is at, unless that was the last that it was told."""
    path = folder / CONTROL_FILE
    try:
        told = read_json(path, Control).command if path.is_file() else Command.RUN
    except ValueError:
        told = None
    if told is not command:
        write_json(path, Control(command=command))


def end_of_log(path: Path, *, characters: int = LOG_CHARACTERS) -> str:
    """The last lines of a log, as text that the database takes."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4 * characters))
        text = file.read().decode(errors="replace").replace("\x00", "�")[-characters:]
    text = text if size <= characters else text.partition("\n")[2] or text
    return "\n".join(readable(line) for line in text.split("\n"))


def add_to_log(path: Path, message: str, *, environment: Mapping[str, str]) -> None:
    """Have a warning follow what the trainer has logged so far, in the form in which it logs."""
    record = logging.LogRecord("app.training", logging.WARNING, __file__, 0, message, None, None)
    form = JsonLines("worker") if is_json(environment) else TextLines()
    with path.open("a", encoding="utf-8") as file:
        file.write(form.format(record) + "\n")


@dataclass
class NewLines:
    """A file that the trainer adds lines to, read piece by piece."""

    path: Path
    offset: int = 0

    def read_on(self) -> list[bytes]:
        """The whole lines that came since."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.splitlines()


@dataclass
class Watched:
    """What the trainer has written to `samples.jsonl` so far."""

    lines: NewLines
    evaluations: dict[int, WatchedSamples] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> "Watched":
        """The watched samples of a run, none of them read yet."""
        return cls(NewLines(folder / SAMPLES_FILE))

    def read_on(self) -> bool:
        """Take in the whole lines that came since; whether there were any. The last line of a step counts."""
        lines = self.lines.read_on()
        for line in lines:
            try:
                evaluation = WatchedSamples.model_validate_json(line)
            except ValidationError:  # a line torn by a kill
                continue
            self.evaluations[evaluation.step] = evaluation
        return bool(lines)

    def kept(self) -> list[WatchedSamples]:
        """Some evaluations, evenly spaced, the first and the last among them."""
        steps = sorted(self.evaluations)
        return [self.evaluations[steps[place]] for place in sorted(_spread(range(len(steps)), KEPT_EVALUATIONS))]


@dataclass
class Metrics:
    """What the trainer has written to `metrics.jsonl` so far, and what was sampled meanwhile."""

    lines: NewLines
    watched: Watched
    rows: dict[tuple[Stage, int], MetricsRow] = field(default_factory=dict)
    latest: MetricsRow | None = None
    evaluations_came: bool = False
    """Whether there was one among the rows that were read last."""
    message: str = ""

    @classmethod
    def of(cls, folder: Path) -> "Metrics":
        """The metrics of a run, none of them read yet."""
        return cls(NewLines(folder / METRICS_FILE), Watched.of(folder))

    def read_on(self) -> bool:
        """Take in the whole lines that came since; whether there were any. The last row of a step counts."""
        lines = self.lines.read_on()
        self.evaluations_came = False
        for line in lines:
            try:
                row = MetricsRow.model_validate_json(line)
            except ValidationError:  # a line torn by a kill
                continue
            self.latest = row
            self.message = row.message or self.message
            self.evaluations_came |= is_evaluation(row)
            if row.loss is not None or is_evaluation(row):
                self.rows[row.stage, row.step] = row
        return bool(lines)

    def in_order(self) -> list[MetricsRow]:
        """All rows with a figure, by step."""
        return sorted(self.rows.values(), key=lambda row: row.step)

    def chart_rows(self) -> list[MetricsRow]:
        """The rows that the charts show, thinned."""
        return thinned(self.in_order(), limit=CHART_ROWS)


def thinned(rows: Iterable[MetricsRow], *, limit: int) -> list[MetricsRow]:
    """At most `limit` rows in order; those that evaluate come first, up to half of them, the rest is spread evenly."""
    every = list(rows)
    evaluating = {index for index, row in enumerate(every) if is_evaluation(row)}
    if len(every) <= limit:
        return every
    kept = _spread(sorted(evaluating), limit // 2) | _spread(range(len(every)), limit - limit // 2)
    return [every[index] for index in sorted(kept)]


def _spread(indices: Iterable[int], count: int) -> set[int]:
    """`count` of the indices, evenly spaced, the first and the last among them."""
    every = list(indices)
    if len(every) <= count:
        return set(every)
    return {every[round(place * (len(every) - 1) / (count - 1))] for place in range(count)}


class Starts(BaseModel):
    """`starts.json`: how often the trainer was started without getting any further than before."""

    in_vain: int = 0
    fraction: float = 0.0

    def another(self, fraction: float) -> "Starts":
        """The count after one more start, at a point where `fraction` of the run was done."""
        if fraction > self.fraction:
            return Starts(in_vain=0, fraction=fraction)
        return Starts(in_vain=self.in_vain + 1, fraction=self.fraction)

    def one_less(self) -> "Starts":
        """The count without the last start: that trainer did not die, it was told to leave."""
        return Starts(in_vain=max(-1, self.in_vain - 1), fraction=self.fraction)


def read_starts(folder: Path) -> Starts:
    """The count so far; a fresh one where there is none or it cannot be read."""
    try:
        return Starts.model_validate_json((folder / STARTS_FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return Starts(in_vain=-1)


def write_starts(folder: Path, starts: Starts) -> None:
    """Keep the count, so that it outlives the worker."""
    write_whole(folder / STARTS_FILE, starts.model_dump_json().encode())
