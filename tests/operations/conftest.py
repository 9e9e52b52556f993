"""Fixtures for the tests of operations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.support import PATIENCE, Clock
from tests.databases import Database
from tests.migrations.support import Target
from tests.operations.support import Said, begin
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


@pytest.fixture
def run_on(tmp_path: Path) -> Callable[..., object]:
    """Runs a command on a database."""

    async def call(dsn: str, *words: str) -> Said:
        child = await begin(*words, dsn=dsn, folder=tmp_path)
        out, errors = await asyncio.wait_for(child.communicate(), 3 * PATIENCE)
        assert child.returncode is not None
        return Said(child.returncode, out.decode(), errors.decode())

    return call


@pytest.fixture
def run(distinct_database: Database, run_on: Callable[..., object]) -> Callable[..., object]:
    """Runs a command on the database, or another one."""
    return lambda *words, dsn=None: run_on(dsn or distinct_database.dsn, *words)
