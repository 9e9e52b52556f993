"""Fixtures for all tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.store import Store
from tests import interpreters
from tests.databases import ALL, DISTINCT, REDIS, SHARED, SQL, TABLES, Database, make
from tests.servers import Databases

SEED = "MCP_PERSIST_SA_TEST_HUNT_SEED"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Random:
    """Chance, from a seed that is printed."""
    seed = int(os.environ.get(SEED) or secrets.randbits(32))
    print(f"{request.node.name}: {SEED}={seed}")
    return Random(seed)


@pytest.fixture
def new_postgres(postgres_template: Databases, postgres_from_template: Callable[[str], str]) -> Callable[[], str]:
    """Gives the DSN of a migrated, empty Postgres database."""
    return lambda: postgres_from_template(postgres_template.template("migrated", upgrade))


@pytest.fixture
def new_database(
    tmp_path: Path, new_postgres: Callable[[], str], new_redis: Callable[[str], str]
) -> Callable[[str], Database]:
    """Gives an empty database of a kind."""
    return lambda kind: make(kind, tmp_path, new_postgres, new_redis)


def _each_of(kinds: Sequence[str]) -> Any:
    @pytest.fixture(params=kinds)
    async def database(
        request: pytest.FixtureRequest, new_database: Callable[[str], Database]
    ) -> AsyncIterator[Database]:
        made = new_database(request.param)
        yield made
        await made.close()

    return database


database = _each_of(ALL)
shared_database = _each_of(SHARED)
"""Each kind that several nodes can open."""

distinct_database = _each_of(DISTINCT)
"""Each kind that several processes can open, and that is not much like another."""

sql_database = _each_of(SQL)
"""Each kind that several nodes can open, and that takes SQL."""

tables_database = _each_of(TABLES)
"""Each kind that takes SQL."""

redis_database = _each_of(REDIS)
"""Each kind of Redis."""


@pytest.fixture
async def store(database: Database) -> Store:
    """An open store on each kind of database."""
    return await database.open()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the interpreters that a run of `test_versions.py` could not find."""
    if any("test_versions.py" in report.nodeid for report in terminalreporter.getreports("passed")):
        found = {version: interpreters.find(version) for version in interpreters.others()}
        for version, interpreter in found.items():
            terminalreporter.write_line(f"Python {version}: {interpreter or 'NOT FOUND, so it was NOT tested'}")
