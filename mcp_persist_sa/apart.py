"""One connection beside those of the calls: taken out of its pool, which makes another in its place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection

from mcp_persist_sa.threads import Threads
from mcp_persist_sa.transactions import Work

T = TypeVar("T")


class Run(Protocol):
    """Runs work on one connection, one at a time; what the driver raises comes out as it is."""

    async def __call__(self, work: Work[T]) -> T: ...


@asynccontextmanager
async def in_thread(engine: sa.Engine) -> AsyncGenerator[Run, None]:
    """A connection of an engine, in a thread of its own."""
    thread = Threads(1, "mcp-persist-sa-apart")
    try:
        connection = await thread.run(partial(_connect, engine))
        try:
            yield partial(_in_thread, thread, connection)
        finally:
            await thread.run(connection.close)
    finally:
        thread.close()


def _connect(engine: sa.Engine) -> sa.Connection:
    connection = engine.connect()
    connection.detach()
    return connection


async def _in_thread(thread: Threads, connection: sa.Connection, work: Work[T]) -> T:
    return await thread.run(partial(work, connection))


@asynccontextmanager
async def in_loop(connecting: Awaitable[AsyncConnection]) -> AsyncGenerator[Run, None]:
    """A connection of an engine of asyncio."""
    connection = await connecting
    # From now on nobody else ends it, not even where SQLAlchemy finds it broken.
    driver = await connection.run_sync(_detach)
    try:
        yield partial(_in_loop, connection)
    finally:
        with suppress(Exception):
            await connection.run_sync(lambda c: c.dialect.do_terminate(driver))
        with suppress(Exception):
            await connection.invalidate()
            await connection.close()


def _detach(connection: sa.Connection) -> DBAPIConnection:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    connection.detach()
    return driver


async def _in_loop(connection: AsyncConnection, work: Work[T]) -> T:
    return await connection.run_sync(work)
