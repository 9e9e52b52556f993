"""Fixtures for the tests of the test servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

Connect = Callable[..., Awaitable[Any]]

LOST = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)
"""What asyncpg raises when its connection is gone."""


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Opens connections that are dropped at the end of the test."""
    opened: list[Any] = []

    async def open_one(dsn: str, **options: Any) -> Any:
        opened.append(await asyncpg.connect(dsn, timeout=10, **options))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.terminate()


@pytest.fixture
async def table(postgres_database: str, connect: Connect) -> Any:
    """A direct connection to a database with an empty table `t`."""
    connection = await connect(postgres_database)
    await connection.execute("CREATE TABLE t (n int)")
    return connection
