"""What tests share: a real PostgreSQL, a transaction that is rolled back, and a browser without a screen."""

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import settings as hypothesis_settings
from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session, sessionmaker
from starlette.routing import BaseRoute

from app.accounts.access import CSRF_HEADER, SESSION_COOKIE, csrf_token
from app.accounts.models import User
from app.accounts.service.sign_ins import start_sign_in
from app.database import libpq_url, make_engine
from app.main import create_app
from app.settings import Settings, with_secrets
from app.stack.migrations import migrate
from app.stack.postgres import start_embedded

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SERVER = "PALATE_TEST_SERVER"
"""Address of a PostgreSQL whose databases tests may create and drop; unset: an embedded one is started."""

hypothesis_settings.register_profile("palate", deadline=None)  # a busy machine is no bug
hypothesis_settings.load_profile("palate")


def pytest_configure(config: pytest.Config) -> None:
    """Start one database server for all parallel test processes."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if SERVER in os.environ or hasattr(config, "workerinput"):
        return
    folder = Path(tempfile.mkdtemp(prefix="palate-tests-"))
    server = start_embedded(folder / "postgres", cleanup_mode="delete")
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    os.environ[SERVER] = server.get_uri()
    config.add_cleanup(server.cleanup)


def database_address(name: str) -> str:
    """The address of one database on the test server."""
    head, _, tail = os.environ[SERVER].partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{tail}" if tail else "")


def on_server(statement: str) -> None:
    """Run one administrative statement, outside any transaction."""
    with psycopg.connect(libpq_url(os.environ[SERVER]), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


@pytest.fixture(scope="session")
def template_database(worker_id: str) -> str:
    """Name of a migrated, empty database to copy."""
    name = f"palate_template_{worker_id}_{os.getpid()}"
    on_server(f'CREATE DATABASE "{name}"')
    engine = make_engine(database_address(name))
    migrate(engine)
    engine.dispose()
    return name


@pytest.fixture(scope="session")
def engine(template_database: str) -> Iterator[Engine]:
    """The database of this test process, shared by all tests that roll back."""
    name = template_database.replace("template", "shared")
    on_server(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}"')
    engine = make_engine(database_address(name))
    yield engine
    engine.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """One connection inside an outer transaction that is rolled back."""
    with engine.connect() as connection:
        transaction = connection.begin()
        yield connection
        transaction.rollback()


@pytest.fixture
def session_factory(connection: Connection) -> sessionmaker[Session]:
    """Sessions whose commits are savepoints of the test's transaction."""
    return sessionmaker(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)


@pytest.fixture
def session(session_factory: sessionmaker[Session]) -> Iterator[Session]:
    """A session for the test's own setup and questions."""
    with session_factory() as session:
        yield session


@pytest.fixture
def fresh_database(template_database: str) -> Iterator[str]:
    """Address of a database of the test's own: for races, which need rows that are committed."""
    name = f"palate_fresh_{os.getpid()}_{os.urandom(4).hex()}"
    on_server(f'CREATE DATABASE "{name}" TEMPLATE "{template_database}"')
    yield database_address(name)
    on_server(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings over a data folder of the test's own."""
    return with_secrets(Settings(data_dir=tmp_path / "data", _env_file=None))


class StoppedClock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        """The present instant of the test."""
        return self.now

    def forward(self, **by: float) -> datetime:
        """Let time pass: `clock.forward(minutes=5)`."""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock() -> StoppedClock:
    """A clock that stands at NOW until moved."""
    return StoppedClock()


@pytest.fixture(scope="session")
def prepared_routes() -> list[BaseRoute]:
    """The routes of the first app: FastAPI reads every signature anew for each, which takes longer than most tests."""
    return []


@pytest.fixture
def app(
    settings: Settings,
    session_factory: sessionmaker[Session],
    clock: StoppedClock,
    prepared_routes: list[BaseRoute],
) -> FastAPI:
    """The web app over the test's transaction; routes that a test adds are its own."""
    app = create_app(settings, session_factory=session_factory, clock=clock)
    if not prepared_routes:
        prepared_routes.extend(app.router.routes)
    app.router.routes[:] = prepared_routes
    return app


@pytest.fixture
def visitor(app: FastAPI) -> TestClient:
    """A browser in which nobody is signed in; redirects are not followed."""
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


SignedIn = Callable[[User], TestClient]


@pytest.fixture
def signed_in(app: FastAPI, session: Session, settings: Settings, clock: StoppedClock) -> SignedIn:
    """`signed_in(user)` is a browser of that person which sends the CSRF token by itself."""

    def browser(user: User) -> TestClient:
        token = start_sign_in(session, user=user, user_agent="test", lasts=timedelta(days=30), now=clock())
        session.commit()
        client = TestClient(app, base_url="http://localhost", follow_redirects=False)
        client.cookies.set(SESSION_COOKIE, token)
        client.headers[CSRF_HEADER] = csrf_token(settings, token)
        return client

    return browser


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real prompts, preferences and models; a missing one is a failure, not a skip."""
    folder = os.environ.get("PALATE_REAL_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.fail("Set PALATE_REAL_DATA to the folder of real data; tests marked `real` need it.")
    return Path(folder)
