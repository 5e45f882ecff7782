"""Migrations run while the version before them serves: none takes a table away, changes it under its readers, or keeps
people waiting. `docs/operations.md` promises it.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, text

from app.database import libpq_url, make_engine
from app.settings import ROOT
from app.stack.migrations import alembic_config, migrate
from tests.conftest import SERVER, database_address, on_server

LONGEST_WAIT_SECONDS = 2.0
PROMPTS = 3_000
JUDGED_TABLES = (
    *("sign_ins", "users", "campaigns", "enrolments", "campaign_revisions", "assignments", "comparisons", "slots"),
    *("judgments", "comparison_completions", "completions", "prompts", "campaign_queues", "deployments"),
)
"""What the path from a verdict to the next comparison reads or writes, in the order of a request."""


def revisions() -> list[str]:
    """All revisions, the oldest first."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


FIRST, *LATER = revisions()


@pytest.fixture
def early_database() -> Iterator[str]:
    """A database at the first revision, with prompts and completions."""
    name = f"palate_early_{secrets.token_hex(6)}"
    on_server(f'CREATE DATABASE "{name}"')
    engine = make_engine(database_address(name))
    migrate(engine, to=FIRST)
    with engine.begin() as connection:
        for statement in FILL:
            connection.execute(text(statement), {"count": PROMPTS})
    engine.dispose()
    yield database_address(name)
    on_server(f'DROP DATABASE "{name}" WITH (FORCE)')


FILL = [
    "INSERT INTO campaigns (kind, name, state, created_at) VALUES ('comparison', 'Old', 'open', now())",
    """INSERT INTO prompts (campaign_id, messages, text_sha256, split, created_at)
       SELECT campaigns.id, jsonb_build_array(jsonb_build_object('role', 'user', 'content', 'Say ' || n)), md5(n::text),
              'train', now()
       FROM campaigns, generate_series(1, :count) AS n""",
    """INSERT INTO completions (prompt_id, source, text, normalised_sha256, created_at)
       SELECT id, 'imported', side || id, md5(side || id), now() FROM prompts, unnest(ARRAY['a', 'b']) AS side""",
    """INSERT INTO comparisons (campaign_id, prompt_id, redundancy, created_at)
       SELECT campaign_id, id, 1, now() FROM prompts""",
    "INSERT INTO slots (comparison_id, number, campaign_id) SELECT id, 1, campaign_id FROM comparisons",
]
"""Statements for the first revision's tables, which never change any more."""


# --- What a migration may say


def linted(statements: list[str], folder: Path) -> list[str]:
    """What squawk, a linter for migrations, has against these statements."""
    program = next(file for file in distribution("squawk-cli").files or [] if file.name == "squawk").locate()
    script = folder / "migration.sql"
    script.write_text("\n".join(f"{statement.strip().rstrip(';')};" for statement in statements))
    matters_of_taste = (
        *("prefer-robust-stmts", "prefer-text-field", "prefer-bigint-over-int", "prefer-identity"),
        *("prefer-timestamp-tz", "prefer-bigint-over-smallint", "require-timeout-settings", "ban-char-field"),
        "ban-concurrent-index-creation-in-transaction",  # which PostgreSQL itself refuses
    )
    excluded = [f"--exclude={','.join(matters_of_taste)}"]
    done = subprocess.run(
        [str(program), "--pg-version=16", "--reporter=json", "--assume-in-transaction", *excluded, str(script)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr
    return [f"{found['rule_name']}: {found['message']}" for found in json.loads(done.stdout or "[]")]


@contextmanager
def said_on(connection: Connection) -> Iterator[list[str]]:
    """The statements that define something, as they are sent."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.lstrip().upper().startswith(("ALTER", "CREATE", "DROP")):
            said.append(statement)

    event.listen(connection.engine, "before_cursor_execute", note)
    yield said
    event.remove(connection.engine, "before_cursor_execute", note)


def test_no_migration_rewrites_a_table_or_takes_away_what_the_version_before_uses(
    early_database: str, tmp_path: Path
) -> None:
    engine = make_engine(early_database)
    faults = {}
    for revision in LATER:
        with engine.connect() as connection, said_on(connection) as said:
            migrate(engine, to=revision)
        if said and (found := linted(said, tmp_path)):
            faults[revision] = found
    engine.dispose()
    assert faults == {}


@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE prompts DROP COLUMN tags",
        "ALTER TABLE prompts RENAME COLUMN tags TO labels",
        "ALTER TABLE prompts ADD COLUMN kind text NOT NULL",
        "ALTER TABLE prompts ALTER COLUMN id TYPE bigint",
        "CREATE INDEX prompts_by_kind ON prompts (created_at)",
        "ALTER TABLE prompts ADD CONSTRAINT short CHECK (length(text_sha256) < 99)",
        "DROP TABLE slots",
    ],
)
def test_what_would_harm_is_found(harm: str, tmp_path: Path) -> None:
    assert linted([harm], tmp_path) != []
    assert linted(["CREATE TABLE lists (id int PRIMARY KEY)", "CREATE INDEX i ON lists (id)"], tmp_path) == []


# --- How long people wait


@dataclass
class Touching:
    """What judging does to tables as far as a migration can tell, whatever their columns: transactions that lock them
    one after the other as an UPDATE does. Columns change; who waits for whom does not.
    """

    address: str
    slowest_seconds: float = 0.0
    rounds: int = 0
    failures: list[Exception] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going_on(self, people: int = 4) -> Iterator[None]:
        """Have it done meanwhile."""
        threads = [threading.Thread(target=self._touch) for _ in range(people)]
        for thread in threads:
            thread.start()
        yield
        self._over.set()
        for thread in threads:
            thread.join()

    def _touch(self) -> None:
        with psycopg.connect(libpq_url(self.address)) as connection:
            while not self._over.is_set():
                begun = time.monotonic()
                try:
                    for table in JUDGED_TABLES:
                        connection.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE")  # type: ignore[call-overload]
                    connection.commit()
                except psycopg.Error as error:
                    self.failures.append(error)
                    return
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - begun)
                self.rounds += 1
                time.sleep(0.002)


@pytest.mark.race
def test_nobody_waits_long_while_migrations_run_even_behind_somebody_who_holds_a_table(early_database: str) -> None:
    engine = make_engine(early_database)
    touching = Touching(early_database)
    with psycopg.connect(libpq_url(early_database)) as reader, touching.going_on():
        reader.execute("SELECT count(*) FROM prompts")  # and keeps its transaction open, as a long report does
        patience = threading.Timer(3, reader.rollback)
        patience.start()
        migrate(engine)
        patience.join()
    engine.dispose()
    assert touching.failures == []
    assert touching.rounds > 100
    assert touching.slowest_seconds < LONGEST_WAIT_SECONDS


# --- The version before, serving

DRIVER = """
import json, sys, threading, tempfile, time
from pathlib import Path
from benchmarks.annotators import Annotator
from benchmarks.installation import filled_database, web

server, name = sys.argv[1:]
database = filled_database(server, name=name, comparisons=3000, annotators=4)
over, failures, counts = threading.Event(), [], []
with tempfile.TemporaryDirectory() as folder, web(database, folder=Path(folder)) as (host, port, _):
    people = [Annotator(host, port, token) for token in database.tokens]
    for person in people:
        person.open(database.campaign_id)

    def judge(person):
        try:
            while person.has_comparison and not over.is_set():
                person.judge("1>2")
                counts.append(1)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=judge, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    print("serving", flush=True)
    for line in sys.stdin:
        wanted = len(counts) + 100
        while len(counts) < wanted and not failures:
            time.sleep(0.01)
        print(len(counts), flush=True)
    over.set()
    for thread in threads:
        thread.join()
slowest = max(latency for person in people for latency in person.latencies)
print(json.dumps({"judged": len(counts), "slowest": slowest, "failures": failures}), flush=True)
"""


def git(*arguments: str) -> str:
    """What git answers in the checkout; empty where there is none."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def commit_before_the_newest_revision() -> str | None:
    """The last commit whose code did not have the newest migration; None where the checkout does not go back so far.

    Merges count as one step, so that the code is one that was whole.
    """
    script = ScriptDirectory.from_config(alembic_config()).get_revision("head")
    assert script is not None
    path = str(Path(script.path).relative_to(ROOT))
    added = git("log", "--first-parent", "-m", "--diff-filter=A", "--format=%H", "--", path)
    if not git("rev-parse", "HEAD"):
        return None
    if not added:
        return "HEAD"
    return git("rev-parse", "--verify", "--quiet", f"{added.splitlines()[-1]}^") or None


@pytest.fixture
def code_before(tmp_path: Path) -> Path:
    """The code before the newest migration, with what its pages need of npm."""
    commit = commit_before_the_newest_revision()
    if commit is None:
        pytest.skip("The checkout holds no history; the tests above hold without it.")
    folder = tmp_path / "before"
    folder.mkdir()
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    shutil.copytree(ROOT / "static" / "vendor", folder / "static" / "vendor")
    return folder


@pytest.mark.slow
@pytest.mark.race
def test_the_version_before_serves_while_the_newest_migration_runs_and_after_it(code_before: Path) -> None:
    name = f"palate_serving_{secrets.token_hex(6)}"
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, os.environ[SERVER], name],
        cwd=code_before, env={**os.environ, "PYTHONPATH": str(code_before)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert driver.stdin is not None
    assert driver.stdout is not None
    try:
        assert driver.stdout.readline() == "serving\n"
        engine = make_engine(database_address(name))
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) in [FIRST, *LATER][:-1]
        migrate(engine)
        engine.dispose()
        driver.stdin.write("a hundred more\n")
        driver.stdin.flush()
        assert int(driver.stdout.readline()) >= 100
        driver.stdin.close()
        told = json.loads(driver.stdout.readline())
    finally:
        driver.kill()
        driver.wait()
        on_server(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    assert told["failures"] == []
    assert told["slowest"] < LONGEST_WAIT_SECONDS
