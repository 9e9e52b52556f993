"""Fixtures for the tests of operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.support import Clock
from tests.migrations.support import Target
from tests.servers import PostgresServer
from tests.servers.databases import Databases


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that writes to its disk, as the one that other tests share does not: the doctor looks at that."""
    with PostgresServer(private=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> Iterator[Databases]:
    databases = Databases(postgres_server, "operations")
    yield databases
    databases.close()


@pytest.fixture
def clock() -> Clock:
    """A clock for `database.open(clock=clock)`."""
    return Clock()


@pytest.fixture
def postgres_target(postgres_database: str) -> Target:
    return Target("postgresql", postgres_database)
