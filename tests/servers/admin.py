"""Administration statements as plain synchronous calls, for tests and fixtures with or without a running event loop."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# `pg_locks` shows every database of the server, and other workers of the test run use theirs meanwhile.
ADVISORY_LOCKS = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
    "WHERE locktype = 'advisory' AND datname = current_database()"
)


def run_apart(function: Callable[[], Awaitable[T] | T]) -> T:
    """Run a function, async or not, in a thread without an event loop or with its own, and wait for its result."""

    async def wait_for(result: Awaitable[T]) -> T:
        return await result

    def work() -> T:
        result = function()
        if inspect.isawaitable(result):
            return asyncio.run(wait_for(result))
        return cast("T", result)

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


def execute(dsn: str, *statements: str, timeout: float = 60) -> None:
    """Run statements one by one, each in a transaction of its own."""

    async def work() -> None:
        connection: Any = await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close(timeout=timeout)

    run_apart(work)


def fetch_value(dsn: str, query: str, timeout: float = 60) -> Any:
    """Return the first column of a query's first row."""

    async def work() -> Any:
        connection: Any = await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout, statement_cache_size=0)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close(timeout=timeout)

    return run_apart(work)


def accepts_connections(dsn: str, timeout: float = 5) -> bool:
    """Say whether a server completes a login; raise when it refuses this one for good."""

    async def work() -> None:
        connection: Any = await asyncpg.connect(dsn, timeout=timeout)
        await connection.close(timeout=timeout)

    try:
        run_apart(work)
    except (OSError, TimeoutError, asyncio.TimeoutError, asyncpg.CannotConnectNowError):
        return False
    except asyncpg.PostgresConnectionError:
        return False
    return True


def quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
