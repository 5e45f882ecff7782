"""A line over a tiny random model, judged enough to train on, and the place of a worker that trains it."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.background import Workplace
from app.clock import utc_now
from app.database import make_engine, make_session_factory
from app.deployments.models import ModelLine
from app.deployments.service import create_line
from app.settings import Settings
from app.training.models import LineProbe, Run
from app.training.service.requesting import request_run
from tests.conftest import NOW
from tests.factories.campaigns import make_campaign
from tests.factories.serving import random_model, save
from tests.factories.training import judge_pairs
from trainer.contract.base import Message
from trainer.contract.files import weights_sha256
from trainer.contract.run import Budget, Hyperparameters, ProbePrompt

QUICK = Hyperparameters(epochs=4, learning_rate=1e-3, drift_weight=0.1)
LONG = Hyperparameters(epochs=150, learning_rate=1e-3, drift_weight=0.1)
"""Hundreds of steps: enough to be interrupted in the middle."""


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama with a chat template."""
    return save(tmp_path_factory.mktemp("bases") / "tiny-v0", random_model(context=160))


@dataclass(frozen=True)
class Shop:
    """A worker's place, and a line with judgments."""

    place: Workplace
    line_id: int

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction of one's own."""
        with self.place.session_factory.begin() as session:
            yield session

    def ask(self, hyperparameters: Hyperparameters = QUICK) -> int:
        """Request a run; its id."""
        budget = Budget(threads=1, checkpoint_every_steps=5, evaluate_every_steps=10)
        with self.session() as session:
            line = session.get_one(ModelLine, self.line_id)
            asked = request_run(
                session, line=line, person=None, now=NOW, hyperparameters=hyperparameters, budget=budget, seed=3
            )
            return asked.id

    def run(self, run_id: int) -> Run:
        """The run as it is now."""
        with self.session() as session:
            run = session.get_one(Run, run_id)
            assert run.model_version is None or run.model_version.name
            return run

    def folder(self, run_id: int) -> Path:
        """Where a run's files lie."""
        return self.place.settings.runs_dir.resolve() / str(run_id)


@pytest.fixture
def shop(fresh_database: str, settings: Settings, tiny_base: Path) -> Iterator[Shop]:
    """A line with 24 training pairs and 8 held-out ones."""
    engine = make_engine(fresh_database)
    place = Workplace(settings=settings, session_factory=make_session_factory(engine), clock=utc_now)
    with place.session_factory() as session:
        line = create_line(
            session, slug="tiny", name="Tiny", path=str(tiny_base), sha256=weights_sha256(tiny_base), now=NOW
        )
        probe = ProbePrompt(name="anything", prompt=[Message(role="user", content="Say it.")])
        session.add(LineProbe(line_id=line.id, name=probe.name, probe=probe.model_dump(mode="json")))
        judge_pairs(session, make_campaign(session, line=line), train=24, held_out=8)
    yield Shop(place, line.id)
    engine.dispose()


def trainers_of(folder: Path) -> list[int]:
    """The processes that were started on a run folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(folder).encode() in words and state != "Z":
                found.append(int(entry.name))
    return found


def kill_trainers(folder: Path) -> int:
    """Kill them as the kernel kills what has taken too much memory; how many there were."""
    pids = trainers_of(folder)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(pids)


@contextmanager
def meanwhile(work: Callable[[], bool], *, every: float = 0.05, seconds: float = 60) -> Iterator[None]:
    """Do something again and again beside the test's own work, until it says that it is done."""
    over = threading.Event()

    def go_on() -> None:
        ends = time.monotonic() + seconds
        while not over.is_set() and time.monotonic() < ends and not work():
            time.sleep(every)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def steps_taken(folder: Path) -> int:
    """How many steps of training the metrics tell of."""
    path = folder / "metrics.jsonl"
    return sum('"loss"' in line for line in path.read_text().splitlines()) if path.is_file() else 0
