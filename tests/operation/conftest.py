"""What the tests of operation share."""

import os
from collections.abc import Iterator

import pytest

from tests.conftest import database_address, on_server


@pytest.fixture
def empty_database() -> Iterator[str]:
    """A database without a table."""
    name = f"palate_empty_{os.getpid()}_{os.urandom(4).hex()}"
    on_server(f'CREATE DATABASE "{name}"')
    yield database_address(name)
    on_server(f'DROP DATABASE "{name}" WITH (FORCE)')
