"""The page *Condition* names every process that runs, and those that fell silent."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.accounts.models import Role
from app.database import make_engine, make_session_factory
from app.operation.condition import examine
from app.operation.living import keep_telling, tell
from app.operation.models import SignOfLife
from app.operation.processes import ProcessSeen, list_processes
from app.settings import ROOT, Settings
from app.training.models import RunState
from tests.conftest import NOW, SignedIn
from tests.factories.accounts import make_user
from tests.factories.deployments import make_line
from tests.factories.training import make_run
from trainer.contract.process import code_version, this_process

Sessions = sessionmaker[Session]


def sign(session: Session, kind: str, *, seconds_ago: float, **given: object) -> SignOfLife:
    values = {"host": "here", "pid": 7, "version": code_version(), "memory_bytes": 99_000_000, **given}
    made = SignOfLife(
        kind=kind, started_at=NOW - timedelta(hours=1), seen_at=NOW - timedelta(seconds=seconds_ago), **values
    )
    session.add(made)
    session.commit()
    return made


def of_kind(session: Session, settings: Settings, kind: str) -> list[ProcessSeen]:
    return [each for each in list_processes(session, settings, now=NOW) if each.kind == kind]


def test_every_process_that_lives_is_shown_and_of_a_kind_that_fell_silent_the_last(
    session: Session, settings: Settings
) -> None:
    for pid, age in ((1, 2000), (2, 5), (3, 20)):
        sign(session, "web", seconds_ago=age, pid=pid)
    for pid, age in ((4, 2000), (5, 60)):
        sign(session, "worker", seconds_ago=age, pid=pid)
    assert [(each.pid, each.is_alive) for each in of_kind(session, settings, "web")] == [(2, True), (3, True)]
    (worker,) = of_kind(session, settings, "worker")
    assert (worker.is_alive, worker.seen_at) in [
        (False, NOW - timedelta(seconds=60)), (False, NOW - timedelta(seconds=2000)),
    ]  # fmt: skip


def test_without_a_web_process_or_worker_that_is_said(session: Session, settings: Settings) -> None:
    for kind in ("web", "worker", "model-server"):
        (process,) = of_kind(session, settings, kind)
        assert not process.is_alive


def test_the_database_tells_since_when_it_runs_and_how_much_it_holds(session: Session, settings: Settings) -> None:
    (process,) = of_kind(session, settings, "postgres")
    assert process.is_alive
    assert process.started_at is not None
    assert "connections" in process.note


def test_a_process_on_other_code_is_to_be_restarted(
    session: Session, session_factory: Sessions, settings: Settings
) -> None:
    sign(session, "web", seconds_ago=1)
    (finding,) = examine(settings, session_factory, now=NOW, only="web")
    assert finding.is_well
    sign(session, "worker", seconds_ago=1, version="0.0.9+00000000")
    (finding,) = examine(settings, session_factory, now=NOW, only="web")
    assert not finding.is_well
    assert "Worker" in finding.advice


def test_the_trainer_of_a_run_is_known_by_its_lock(session: Session, settings: Settings) -> None:
    run = make_run(session, make_line(session), state=RunState.RUNNING, started_at=NOW)
    folder = settings.runs_dir / str(run.id)
    folder.mkdir(parents=True)
    (process,) = of_kind(session, settings, "trainer")
    assert not process.is_alive
    command = [sys.executable, "-c", "import sys, time; print('up', flush=True); time.sleep(60)", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        trainer.stdout.readline()
        (folder / "lock").write_text(str(trainer.pid))
        (process,) = of_kind(session, settings, "trainer")
        assert (process.is_alive, process.pid) == (True, trainer.pid)
        assert process.memory_bytes is not None
        assert process.memory_bytes > 1_000_000
        trainer.kill()
    (process,) = of_kind(session, settings, "trainer")
    assert not process.is_alive
    (folder / "lock").write_text(str(os.getpid()))
    (process,) = of_kind(session, settings, "trainer")
    assert not process.is_alive, "a number that was given away since"


def test_the_page_shows_them_to_admins(session: Session, signed_in: SignedIn) -> None:
    sign(session, "web", seconds_ago=1, host="<machine>")
    sign(session, "supervisor", seconds_ago=1, version="0.0.9+00000000")
    page = signed_in(make_user(session, Role.ADMIN)).get("/condition").text
    for title in ("Web", "Worker", "Model server", "PostgreSQL", "Supervisor"):
        assert f'<th scope="row">{title}' in page
    assert "&lt;machine&gt; 7" in page
    assert "other code: restart it" in page


def test_signs_of_life_go_on_until_told_to_stop_and_through_a_database_that_is_away(fresh_database: str) -> None:
    engine = make_engine(fresh_database)
    sessions = make_session_factory(engine)
    away = keep_telling("postgresql://nobody@127.0.0.1:1/nowhere", kind="web", every_seconds=0.05)
    enough = keep_telling(fresh_database, kind="worker", every_seconds=0.05)
    seen = set()
    deadline = time.monotonic() + 10
    while len(seen) < 3 and time.monotonic() < deadline:
        with sessions() as session:
            seen |= set(session.scalars(select(SignOfLife.seen_at)))
    enough.set()
    away.set()
    assert len(seen) >= 3
    with sessions() as session:
        (row,) = session.scalars(select(SignOfLife)).all()
    assert (row.kind, row.pid, row.version) == ("worker", os.getpid(), code_version())
    assert row.memory_bytes > 10_000_000
    engine.dispose()


def test_a_process_leaves_one_row_however_often_it_tells(session: Session, session_factory: Sessions) -> None:
    number = uuid.uuid4()
    for _ in range(3):
        tell(session_factory, kind="web", number=number)
    assert session.query(SignOfLife).count() == 1


@pytest.fixture
def older_server(settings: Settings) -> Iterator[Settings]:
    """A model server of a version that knows nothing of `/admin/process`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/admin/state"
            told = {"versions": [], "aliases": {}} if known else {"error": {"message": "Not Found"}}
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield settings.model_copy(update={"model_server_url": f"http://127.0.0.1:{server.server_port}"})
    server.shutdown()


def test_an_older_model_server_counts_as_running(session: Session, older_server: Settings) -> None:
    (process,) = of_kind(session, older_server, "model-server")
    assert process.is_alive
    assert process.version == ""


def test_the_mark_of_the_code_is_of_the_code(tmp_path: Path) -> None:
    facts = this_process()
    assert facts.version.partition("+")[0] == "0.1.0"
    again = subprocess.run(
        [sys.executable, "-c", "from trainer.contract.process import code_version; print(code_version())"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert again.stdout.strip() == facts.version
