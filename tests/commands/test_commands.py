"""What `palate` does from a terminal, on a real database: deeds, and refusals that say what to do."""

import errno
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import DiskFull
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from typer.main import get_command
from typer.testing import CliRunner, Result

from app import cli
from app.accounts.models import Role
from app.commands.surroundings import console
from app.database import libpq_url, make_engine, make_session_factory
from app.datasets.models import Snapshot
from app.deployments.models import ModelLine
from app.stack.ports import free_port
from app.training.models import GateOverride, Run, RunState
from app.training.service.ending import finish_run
from tests.conftest import NOW
from tests.factories.accounts import make_user
from tests.factories.campaigns import make_campaign
from tests.factories.datasets import house, write_lines
from tests.factories.deployments import make_line, make_version
from tests.factories.foreign import completion, foreign_server
from tests.factories.training import finished_run
from tests.training.reports import preferences, report
from trainer.contract.report import Report
from trainer.contract.snapshot import MANIFEST_FILE


@pytest.fixture
def database(fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database and a data folder of the test's own, found through the environment."""
    monkeypatch.setenv("DATABASE_URL", fresh_database)
    monkeypatch.setenv("PALATE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(console, "_width", 200)
    return fresh_database


def palate(*arguments: str | Path) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> str:
    """The output of a command that must succeed."""
    result = palate(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refusal(*arguments: str | Path) -> str:
    """What a command that must fail says."""
    result = palate(*arguments)
    assert result.exit_code == 1
    assert isinstance(result.exception, cli.Trouble), result.exception
    said = cli.in_words(result.exception)
    assert said is not None, result.exception
    return said


@pytest.fixture
def rows(database: str) -> Iterator[Session]:
    """A session for the test's own setup and questions, on committed rows."""
    engine = make_engine(database)
    with make_session_factory(engine)() as session:
        yield session
    engine.dispose()


@pytest.fixture
def campaign(rows: Session) -> str:
    """The name of an open campaign on the line `tiny`."""
    made = make_campaign(rows, name="Tone", line=make_line(rows, slug="tiny"))
    rows.commit()
    return made.name


@pytest.fixture
def judged(campaign: str, tmp_path: Path) -> Path:
    """A file of judged comparisons, imported into the campaign."""
    lines = [house(f"Question {number}?", "1>2", id=f"c{number}") for number in range(40)]
    file = write_lines(tmp_path / "judged.jsonl", lines)
    done("comparisons", "import", file, "--campaign", campaign)
    return file


# --- Help


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group, as the words that name it."""
    yield words
    for name, part in getattr(command, "commands", {}).items():
        yield from commands(part, (*words, name))


def test_every_command_explains_itself() -> None:
    every = list(commands(get_command(cli.cli)))
    assert {("user", "create"), ("snapshot",), ("train",), ("deploy",), ("prompts", "import")} <= set(every)
    for words in every:
        assert "Usage:" in done(*words, "--help"), words


# --- Deeds


def test_people_are_let_in_and_shut_out(database: str) -> None:
    assert "/links/" in done("user", "invite", "new@example.org", "--role", "researcher")
    assert "/links/" in done("user", "admin-link")
    done("user", "create", "mary@example.org", "--name", "Mary", "--password", "long enough words")
    assert "mary@example.org" in done("user", "list")
    assert "/links/" in done("user", "reset-link", "mary@example.org")
    assert "manager" in done("user", "role", "mary@example.org", "manager")
    done("user", "deactivate", "mary@example.org")
    assert "deactivated" in done("user", "list")
    done("user", "reactivate", "mary@example.org")
    assert "deactivated" not in done("user", "list")


def test_prompts_are_imported_and_a_bad_line_is_named(campaign: str, tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "prompts.jsonl", [{"prompt": "Why?"}, "{oops", {"prompt": "How?"}, {"prompt": "Why?"}]
    )
    said = done("prompts", "import", file, "--campaign", campaign)
    assert "2 prompts added, 1 duplicate, 1 line rejected" in said
    assert re.search(r"2 .*JSON.*\{oops", said), said
    assert "Why?" in done("prompts", "list", "--campaign", campaign)
    assert "0 prompts added" in done("prompts", "import", file, "--campaign", campaign)


def test_comparisons_come_out_as_they_went_in(campaign: str, judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert "40 comparisons" in done("comparisons", "export", "--campaign", campaign, "--out", out)
    went_in, came_out = ([json.loads(line) for line in file.read_text().splitlines()] for file in (judged, out))
    assert [line["prompt"] for line in came_out] == [line["prompt"] for line in went_in]
    assert [line["judgments"][0]["ranking"] for line in came_out] == ["1>2"] * 40
    assert "is there already" in refusal("comparisons", "export", "--campaign", campaign, "--out", out)
    packed = tmp_path / "out.jsonl.gz"
    done("comparisons", "export", "--campaign", campaign, "--out", packed)
    assert gzip.decompress(packed.read_bytes()) == out.read_bytes()
    assert "0 comparisons added, 40 duplicates" in done("comparisons", "import", out, "--campaign", campaign)


@pytest.mark.usefixtures("judged")
def test_a_snapshot_is_frozen_with_its_counts_and_hash(rows: Session, tmp_path: Path) -> None:
    said = done("snapshot", "--line", "tiny")
    frozen = rows.scalars(select(Snapshot)).one()
    assert frozen.path == str(tmp_path / "data" / "snapshots" / str(frozen.id))
    assert (Path(frozen.path) / MANIFEST_FILE).is_file()
    assert frozen.path in said
    assert re.search(r"judgments +│ +40", said), said
    assert frozen.rows_sha256 is not None
    assert frozen.rows_sha256 in said


@pytest.mark.usefixtures("judged")
def test_a_run_is_requested_and_says_that_no_worker_carries_it_out(rows: Session) -> None:
    said = done("train", "--line", "tiny", "--seed", "3", "--epochs", "2", "--no-deploy", "--no-wait")
    assert "it makes tiny-v1" in said
    assert "No worker is running" in said
    assert "palate worker" in said
    run = rows.scalars(select(Run)).one()
    assert (run.seed, run.hyperparameters["epochs"], run.deploys_when_passed) == (3, 2.0, False)
    assert f"Run {run.id} is under way" in refusal("train", "--line", "tiny")


@pytest.mark.usefixtures("judged")
def test_a_run_is_requested_with_any_setting_of_the_page(rows: Session) -> None:
    unknown = refusal("train", "--line", "tiny", "--set", "betta=1")
    assert "--set betta=1" in unknown
    assert "beta, " in unknown
    assert "beta = -1: " in refusal("train", "--line", "tiny", "--set", "beta=-1")
    weights = "criteria_weights=helpful 1, honest 0.5"
    done(
        "train", "--line", "tiny", "--method", "kto", "--set", "beta=0.2", "--set", weights,
        "--set", "stop_after_evaluations=3", "--no-wait",
    )  # fmt: skip
    run = rows.scalars(select(Run)).one()
    assert (run.method, run.hyperparameters["beta"], run.budget["stop_after_evaluations"]) == ("kto", 0.2, 3)
    assert run.hyperparameters["criteria_weights"] == {"helpful": 1.0, "honest": 0.5}


@pytest.mark.usefixtures("judged")
def test_a_run_is_followed_to_its_end_and_the_gates_checks_are_printed(rows: Session) -> None:
    with started("train", "--line", "tiny") as following:
        while (run := rows.scalars(select(Run)).one_or_none()) is None:
            assert following.poll() is None, following.communicate()
            rows.rollback()
            time.sleep(0.05)
        end_run(rows, run, report(hashes={"model": "0" * 64}))
        said, trouble = following.communicate(timeout=30)
    assert following.returncode == 0, (said, trouble)
    assert f"Run {run.id} succeeded" in said
    assert "Probe prompts" in said


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which does not outlive the test."""
    command = [sys.executable, "-m", "app.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def end_run(rows: Session, run: Run, outcome: Report) -> None:
    """End a run as the worker does."""
    run.state, run.started_at = RunState.RUNNING, NOW
    rows.flush()
    finish_run(rows, run_id=run.id, report=outcome, model_path=f"/runs/{run.id}/model", now=NOW)
    rows.commit()


def test_a_version_is_deployed_and_a_line_rolled_back(campaign: str, rows: Session, tmp_path: Path) -> None:
    line = rows.scalars(select(ModelLine)).one()
    make_version(rows, line, path=str(tmp_path))
    rows.commit()
    assert "tiny-v1 serves" in done("deploy", "tiny-v1", "--reason", "It is kinder.")
    assert "tiny-v0 serves" in done("deploy", "--back", "tiny")
    assert "weights of tiny-v0 are not at nowhere" in refusal("deploy", "tiny-v0")
    assert "Versions: tiny-v1, tiny-v0" in refusal("deploy", "tiny-v7")


def test_what_the_gate_refused_serves_only_on_a_managers_word(campaign: str, rows: Session, tmp_path: Path) -> None:
    line = rows.scalars(select(ModelLine)).one()
    run = finished_run(rows, line, report(before=preferences([1.0] * 12), after=preferences([-1.0] * 12)))
    assert run.model_version is not None
    run.model_version.path = str(tmp_path)
    make_user(rows, email="boss@example.org", role=Role.ADMIN)
    make_user(rows, email="anna@example.org", role=Role.ANNOTATOR)
    rows.commit()
    assert "The gate refused tiny-v1" in refusal("deploy", "tiny-v1")
    why = ("deploy", "tiny-v1", "--override-reason", "The margins are noise here.")
    assert "takes both" in refusal(*why)
    assert "manages no campaign" in refusal(*why, "--as", "anna@example.org")
    assert "tiny-v1 serves" in done(*why, "--as", "boss@example.org")
    assert rows.scalars(select(GateOverride)).one().by.email == "boss@example.org"


# --- Refusals


def test_a_model_of_another_server_is_added_checked_and_moved(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with foreign_server() as server:
        server.reply = lambda _body: completion("Good day.")
        given = ("--address", server.base_url, "--model", "big", "--key", "PALATE_KEY_BIG")
        assert "Use https, or have PALATE_ENDPOINT_ORIGINS list" in refusal("endpoint", "add", "big", *given)
        monkeypatch.setenv("PALATE_ENDPOINT_ORIGINS", json.dumps([server.origin]))
        assert "begins with PALATE_KEY_" in refusal("endpoint", "add", "big", *given[:-1], "PALATE_SECRET_KEY")
        assert "big is added" in done("endpoint", "add", "big", *given)
        result = palate("endpoint", "check", "big")
        assert (result.exit_code, "PALATE_KEY_BIG is not set" in result.output) == (1, True)
        monkeypatch.setenv("PALATE_KEY_BIG", "sk-big")
        assert "theirs-1 wrote: “Good day.”" in done("endpoint", "check", "big")
        assert server.headers[-1]["authorization"] == "Bearer sk-big"
        done("endpoint", "change", "big", "--address", f"{server.origin}/v2", "--no-n")
        listed = done("endpoint", "list")
        assert f"{server.origin}/v2" in listed
        assert "big-v0" in listed


def test_an_unknown_name_is_answered_with_the_known_ones(campaign: str, tmp_path: Path) -> None:
    file = write_lines(tmp_path / "prompts.jsonl", [{"prompt": "Why?"}])
    assert "(Tone)" in refusal("prompts", "import", file, "--campaign", "Tune")
    assert "Lines: tiny." in refusal("train", "--line", "teeny")
    assert "There is no file" in refusal("prompts", "import", tmp_path / "none.jsonl", "--campaign", campaign)
    assert "either --line" in refusal("snapshot")
    assert "Nothing has been judged" in refusal("snapshot", "--campaign", campaign)


def test_a_file_that_cannot_be_read_at_all_fails_the_import(campaign: str, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert "The file is empty" in refusal("prompts", "import", tmp_path / "empty.jsonl", "--campaign", campaign)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "Why?"}' * 99)[:-9])
    assert "damaged or cut" in refusal("comparisons", "import", tmp_path / "cut.jsonl.gz", "--campaign", campaign)


def test_a_database_newer_than_the_code_is_left_alone(database: str) -> None:
    with psycopg.connect(libpq_url(database)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    said = refusal("migrate")
    assert "from_the_future" in said
    assert "newer" in said


def test_an_unreachable_database_is_one_sentence_from_the_terminal(tmp_path: Path) -> None:
    address = f"postgresql://somebody@127.0.0.1:{free_port()}/palate"
    environment = {**os.environ, "DATABASE_URL": address, "PALATE_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "app.cli", "user", "list"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("The database does not answer.")
    assert "DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_settings_that_make_no_sense_are_named(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_PORT", "eighty")
    assert "port: Input should be a valid integer" in refusal("user", "list")


@pytest.mark.parametrize("address", ["nonsense", "mysql://localhost/palate", "postgresql://localhost:port/palate"])
def test_an_address_that_is_no_postgresql_is_refused(
    database: str, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", address)
    assert "DATABASE_URL is not the address of a PostgreSQL" in refusal("user", "list")


def test_a_data_folder_that_cannot_be_is_named(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PALATE_DATA_DIR", str(tmp_path / "file" / "data"))
    assert str(tmp_path / "file") in refusal("user", "list")


def test_a_taken_port_is_named(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "is taken by another program" in refusal("web", "--port", str(other.getsockname()[1]))


def test_a_full_disk_is_said_wherever_it_shows() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/data/part")
    assert "The disk is full: /data/part" in (cli.in_words(full) or "")
    theirs = OperationalError("COMMIT", {}, DiskFull("could not extend file"))
    assert "The database's disk is full" in (cli.in_words(theirs) or "")
