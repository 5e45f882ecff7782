"""A Palate to be broken: its processes by name, its armed steps, and a database connection beside it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psutil
from sqlalchemy import select, text
from sqlalchemy.engine import Engine

from app.accounts.models import Role
from app.accounts.service.sign_ins import start_sign_in
from app.campaigns.models import Access, Campaign
from app.clock import utc_now
from app.database import SessionFactory, make_engine, make_session_factory
from app.deployments.models import ModelLine
from app.settings import Settings
from tests.e2e.conftest import RunningPalate, start_palate, stop_palate
from tests.factories.accounts import make_user
from tests.factories.campaigns import enrol
from tests.factories.datasets import house, write_lines
from trainer.contract.steps import Step

LEASE_SECONDS = 20
"""Short, so that a comparison somebody walked away from is seen to return."""
PROCESSES = ("web", "worker", "model server", "trainer", "postgres")


@dataclass
class Installation:
    """A running Palate. `armed` is the folder in which a step's name pulls a plug; `tokens` sign annotators in."""

    palate: RunningPalate
    armed: Path
    settings: Settings
    sessions: SessionFactory
    campaign_id: int
    line_id: int
    manager_token: str
    tokens: dict[int, str] = field(default_factory=dict)

    def arm(self, step: Step) -> None:
        """Have whoever passes `step` next end there."""
        (self.armed / step).touch()

    def disarm(self, step: Step) -> None:
        """Take the mark away again where nobody came by."""
        (self.armed / step).unlink(missing_ok=True)

    def has_fired(self, step: Step) -> bool:
        """Whether somebody ended at an armed step."""
        return not (self.armed / step).exists()

    def process(self, name: str) -> psutil.Process | None:
        """The process of this name at this moment, if there is one."""
        if name == "postgres":
            return _alive(_postmaster(self.palate.data_dir / "postgres"))
        try:
            everyone = psutil.Process(self.palate.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return None
        everyone += [found for found in _trainers(self.palate.data_dir) if found not in everyone]
        return next((found for found in everyone if _is(found, name)), None)

    def kill(self, name: str) -> bool:
        """End a process as a power cut would; whether there was one."""
        process = self.process(name)
        if process is None:
            return False
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def installation(folder: Path, annotators: int) -> Iterator[Installation]:
    """A fresh Palate with annotators signed in, judged enough to train on."""
    armed = folder / "armed"
    armed.mkdir(parents=True)
    armed.chmod(0o777)
    data_dir = folder / "data"
    palate = start_palate(data_dir, PULL_PLUGS_IN=str(armed), PALATE_LEASE_SECONDS=str(LEASE_SECONDS))
    try:
        engine = _engine(data_dir)
        yield _furnished(palate, armed, make_session_factory(engine), annotators=annotators)
        engine.dispose()
    finally:
        stop_palate(palate)


def _engine(data_dir: Path) -> Engine:
    socket_folder = (data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[4]
    return make_engine(f"postgresql://postgres:@/postgres?host={socket_folder}")


def _furnished(palate: RunningPalate, armed: Path, sessions: SessionFactory, *, annotators: int) -> Installation:
    _import_judgments(palate)
    with sessions.begin() as session:
        session.execute(text("UPDATE campaigns SET redundancy = 2, comparisons_per_prompt = 100"))
        campaign = session.scalars(select(Campaign)).one()
        line = session.scalars(select(ModelLine)).one()
        now, lasts = utc_now(), timedelta(days=2)
        admin = make_user(session, role=Role.ADMIN)
        enrol(session, admin, campaign, judges=False, access=Access.MANAGE)
        tokens = {}
        for _ in range(annotators):
            person = make_user(session, role=Role.ANNOTATOR)
            enrol(session, person, campaign)
            tokens[person.id] = start_sign_in(session, user=person, user_agent="", lasts=lasts, now=now)
        return Installation(
            palate=palate,
            armed=armed,
            settings=_settings(palate),
            sessions=sessions,
            campaign_id=campaign.id,
            line_id=line.id,
            manager_token=start_sign_in(session, user=admin, user_agent="", lasts=lasts, now=now),
            tokens=tokens,
        )


def _import_judgments(palate: RunningPalate) -> None:
    """Enough preferences for a run of some seconds to make sense."""
    lines = [
        house(f"What is {number} in words?", "1>2", completions=("Happily! A number.", "No idea. Look it up."))
        for number in range(60)
    ]
    file = write_lines(palate.data_dir.parent / "judged.jsonl", lines)
    done = palate.command("comparisons", "import", str(file), "--campaign", "First steps")
    assert done.returncode == 0, done.stderr


def _settings(palate: RunningPalate) -> Settings:
    """The settings of the running web process, so that its model server can be asked with its own token."""
    (web,) = (child for child in psutil.Process(palate.process.pid).children(recursive=True) if _is(child, "web"))
    given = web.environ()
    return Settings(
        data_dir=palate.data_dir,
        model_server_url=given["PALATE_MODEL_SERVER_URL"],
        model_server_token=given["PALATE_MODEL_SERVER_TOKEN"],
        _env_file=None,
    )


# --- Processes by name


def _is(process: psutil.Process, name: str) -> bool:
    try:
        words = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
    except psutil.NoSuchProcess:
        return False
    marks = {
        "web": ["app.cli", "web"],
        "worker": ["app.cli", "worker"],
        "model server": ["trainer", "serve"],
        "trainer": ["trainer", "run"],
    }[name]
    return any(words[index : index + 2] == marks for index in range(len(words)))


def _trainers(data_dir: Path) -> list[psutil.Process]:
    """Trainers that outlived the worker which started them, and so are nobody's children."""
    found = []
    for lock in (data_dir / "runs").glob("*/lock"):
        said = lock.read_text().strip()
        process = _alive(int(said)) if said.isdigit() else None
        if process is not None:
            found.append(process)
    return found


def _postmaster(folder: Path) -> int:
    try:
        return int((folder / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return -1


def _alive(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process
    except (psutil.NoSuchProcess, ValueError):
        return None
