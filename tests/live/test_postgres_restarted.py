"""Events go on by themselves after PostgreSQL was killed and came back."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.accounts.models import Role
from app.database import make_engine, make_session_factory
from app.live.announcing import announce
from app.stack.migrations import migrate
from app.stack.postgres import EmbeddedKeeper, start_embedded
from tests.factories.accounts import make_user
from tests.factories.deployments import make_line
from tests.live.following import Web, running_web

BACK_SECONDS = 30


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[EmbeddedKeeper]:
    """A server of the test's own, to be killed."""
    folder = tmp_path / "postgres"
    server = start_embedded(folder, cleanup_mode="delete")
    yield EmbeddedKeeper(folder)
    server.cleanup()


@pytest.fixture
def web(keeper: EmbeddedKeeper, tmp_path: Path) -> Iterator[Web]:
    """`palate web` on that server."""
    address = keeper._server.get_uri()
    engine = make_engine(address)
    migrate(engine)
    with running_web(address, make_session_factory(engine), tmp_path) as running:
        yield running
    engine.dispose()


@pytest.mark.slow
def test_a_page_stays_open_while_postgres_is_killed_and_hears_of_what_comes_after(
    web: Web, keeper: EmbeddedKeeper, tmp_path: Path
) -> None:
    with web.sessions.begin() as session:
        line_id = make_line(session).id
        token = web.sign_in(session, make_user(session, Role.ADMIN))
    page = web.follow(f"/models/{line_id}/events", token)
    assert page.next_event(within_seconds=5) == f"line-{line_id}"

    postmaster = int((tmp_path / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    time.sleep(2)
    assert not page.has_ended
    killed_at = time.monotonic()
    while not (said := keeper.watch()) and time.monotonic() - killed_at < BACK_SECONDS:
        time.sleep(0.2)
    assert said == "database ended; started again"

    assert page.next_event(within_seconds=BACK_SECONDS) == f"line-{line_id}", "it looks at what it may have missed"
    with web.sessions.begin() as session:
        announce(session, "line", line_id)
    told = time.monotonic()
    assert page.next_event(within_seconds=5) == f"line-{line_id}"
    assert time.monotonic() - told < 1
    page.close()
