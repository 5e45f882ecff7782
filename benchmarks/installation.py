"""A Palate for measuring: embedded PostgreSQL, one campaign filled by SQL, and `palate web` as its own process."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from sqlalchemy import text

from app.accounts.models import Role, User
from app.accounts.service.sign_ins import start_sign_in
from app.campaigns.asking import NOTHING, Asked
from app.campaigns.models import Campaign, CampaignKind, CampaignRevision, CampaignState, Enrolment
from app.database import libpq_url, make_engine, make_session_factory
from app.deployments.models import Alias, ModelLine
from app.stack.migrations import migrate
from app.stack.ports import free_port
from app.stack.postgres import start_embedded

GUIDELINES = "Prefer the completion that **helps** most.\n\n- true before fluent\n- short before long\n"
TEXTS = (
    "Here is a way to do it, in three steps:\n\n1. Heat the water.\n2. Add the leaves.\n3. Wait **four** minutes.\n\n",
    "That depends on the leaves. Green ones want less heat, `80 °C`, and less time; black ones can take more.\n\n",
)


@dataclass(frozen=True)
class Database:
    """A filled database. `tokens` are the session cookies of its annotators."""

    address: str
    campaign_id: int
    tokens: list[str]


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[str, int]]:
    """An embedded server with its ordinary settings: its address and the id of its first process."""
    server = start_embedded(folder / "postgres", cleanup_mode="delete")
    try:
        yield server.get_uri(), int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    finally:
        server.cleanup()


def filled_database(
    server: str,
    *,
    name: str,
    comparisons: int,
    annotators: int,
    redundancy: int = 1,
    asked: Asked = NOTHING,
    shown: int = 2,
) -> Database:
    """A new database with one open campaign of imported comparisons of `shown` completions, and its annotators,
    signed in. `asked` is what the campaign asks beside the verdict.
    """
    with psycopg.connect(libpq_url(server), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    head, _, tail = server.partition("?")
    address = f"{head.rpartition('/')[0]}/{name}" + (f"?{tail}" if tail else "")
    engine = make_engine(address)
    migrate(engine)
    now = datetime.now(UTC)
    with make_session_factory(engine).begin() as session:
        line = ModelLine(slug="measured", name="Measured", created_at=now)
        session.add(line)
        session.flush()
        campaign = Campaign(
            name="Measured",
            kind=CampaignKind.COMPARISON,
            state=CampaignState.OPEN,
            line_id=line.id,
            alias=Alias.CURRENT,
            redundancy=redundancy,
            completions_per_comparison=shown,
            samples_drawn=shown,
            created_at=now,
        )
        session.add(campaign)
        session.flush()
        criteria = [criterion.model_dump() for criterion in asked.criteria]
        session.add(
            CampaignRevision(
                campaign_id=campaign.id,
                number=1,
                guidelines=GUIDELINES,
                criteria=criteria,
                scales=asked.scales(),
                created_at=now,
            )
        )
        tokens = []
        for number in range(annotators):
            user = User(
                email=f"annotator{number}@example.org",
                name=f"Annotator {number}",
                role=Role.ANNOTATOR,
                password_hash="!",  # noqa: S106 - nobody signs in by it
                created_at=now,
            )
            session.add(user)
            session.flush()
            session.add(Enrolment(campaign_id=campaign.id, user_id=user.id, judges=True, created_at=now))
            tokens.append(start_sign_in(session, user=user, user_agent="", lasts=timedelta(days=1), now=now))
        given = {"campaign_id": campaign.id, "count": comparisons, "redundancy": redundancy, "shown": shown, "now": now}
        session.execute(text("SET LOCAL session_replication_role = replica"))  # no row looks for those it points at
        for statement in _FILL:
            session.execute(text(statement), {**given, "first": TEXTS[0] * 4, "second": TEXTS[1] * 4})
        campaign_id = campaign.id
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))
    engine.dispose()
    return Database(address, campaign_id, tokens)


_FILL = [
    """INSERT INTO prompts (campaign_id, messages, text_sha256, created_at, split)
       SELECT :campaign_id, jsonb_build_array(jsonb_build_object('role', 'user', 'content',
              'How do I make a good pot of tea for ' || n || ' people?')), md5(n::text) || md5(n::text), :now, 'train'
       FROM generate_series(1, :count) AS n""",
    """INSERT INTO completions (prompt_id, source, text, normalised_sha256, created_at)
       SELECT id, 'imported',
              CASE WHEN n % 2 = 1 THEN 'This is for ' || id || ' people. ' || CAST(:first AS text)
                   ELSE CAST(:second AS text) || 'So for ' || id END || repeat('!', n / 3),
              md5(id || ',' || n), :now
       FROM prompts CROSS JOIN generate_series(1, :shown) AS n""",
    """INSERT INTO comparisons (campaign_id, prompt_id, redundancy, created_at)
       SELECT :campaign_id, id, :redundancy, :now FROM prompts ORDER BY id""",
    """INSERT INTO comparison_completions (comparison_id, completion_id, position)
       SELECT comparisons.id, completions.id,
              row_number() OVER (PARTITION BY comparisons.id ORDER BY completions.id) - 1
       FROM comparisons JOIN completions USING (prompt_id)""",
    """INSERT INTO slots (comparison_id, number, campaign_id)
       SELECT id, number, :campaign_id FROM comparisons CROSS JOIN generate_series(1, :redundancy) AS number""",
]


@contextmanager
def web(database: Database, *, folder: Path, workers: int = 1) -> Iterator[tuple[str, int, int]]:
    """`palate web` on a free port: host, port and process id."""
    port = free_port()
    environment = {**os.environ, "DATABASE_URL": database.address, "PALATE_DATA_DIR": str(folder / "data")}
    command = [Path(sys.executable).with_name("palate"), "web", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(f"http://127.0.0.1:{port}/readyz", process)
        yield "127.0.0.1", port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _await(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(address, timeout=2)  # noqa: S310
        except OSError:
            if process.poll() is not None:
                raise RuntimeError("the web process ended") from None
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(address)
