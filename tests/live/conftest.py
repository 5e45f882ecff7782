"""A running web process on a database of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.database import make_engine, make_session_factory
from tests.live.following import Web, running_web


@pytest.fixture
def web(fresh_database: str, tmp_path: Path) -> Iterator[Web]:
    """`palate web`, and rows that are committed."""
    engine = make_engine(fresh_database)
    with running_web(fresh_database, make_session_factory(engine), tmp_path) as running:
        yield running
    engine.dispose()
