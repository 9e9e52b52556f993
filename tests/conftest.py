"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.store import Store
from tests.databases import ALL, SHARED, Database, make
from tests.servers import Databases


@pytest.fixture
def new_postgres(postgres_template: Databases, postgres_from_template: Callable[[str], str]) -> Callable[[], str]:
    """Gives the DSN of a migrated, empty Postgres database."""
    return lambda: postgres_from_template(postgres_template.template("migrated", upgrade))


async def _database(kind: str, folder: Path, new_postgres: Callable[[], str]) -> AsyncIterator[Database]:
    database = make(kind, folder, new_postgres)
    yield database
    await database.close()


@pytest.fixture(params=ALL)
async def database(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]
) -> AsyncIterator[Database]:
    """Each kind of database."""
    async for made in _database(request.param, tmp_path, new_postgres):
        yield made


@pytest.fixture(params=SHARED)
async def shared_database(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]
) -> AsyncIterator[Database]:
    """Each kind that several nodes can open."""
    async for made in _database(request.param, tmp_path, new_postgres):
        yield made


@pytest.fixture
async def store(database: Database) -> Store:
    """An open store on each kind of database."""
    return await database.open()
