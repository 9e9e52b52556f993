"""mcp-persist, by its public names and with its own defaults."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mcp_types import JSONRPCMessage

from benchmarks.contestants.shape import Contestant, Receive, fill_by
from benchmarks.databases import Database
from benchmarks.figures import PEER

NAME = PEER
TTL = 24 * 60 * 60
"""As long as this package keeps events."""

_CONNECTIONS = 2000


@asynccontextmanager
async def opened(database: Database) -> AsyncGenerator[Contestant, None]:
    """On a database."""
    async with open_peer(database) as store:

        async def fill(stream: str, messages: Sequence[JSONRPCMessage]) -> str:
            return await fill_by(store.store_event, stream, messages)

        yield Contestant(
            NAME,
            fill,
            ways_to_store={NAME: store.store_event},
            ways_to_replay={NAME: partial(replay_by, store)},
            # Redis removes by itself what has expired.
            ways_to_purge={} if database.backend == "redis" else _ways_to_purge(store),
        )


def _ways_to_purge(store: Any) -> dict[str, Callable[[], Awaitable[Any]]]:
    in_batches = partial(store.purge_expired, batch_size=1000)
    return {NAME: store.purge_expired, f"{NAME}, batches of 1,000": in_batches}


@asynccontextmanager
async def open_peer(database: Database, **options: Any) -> AsyncGenerator[Any, None]:
    """Its event store, as durable as the database says."""
    # It is not installed where types are checked.
    package: Any = importlib.import_module("mcp_persist")
    if database.backend == "postgres":
        asyncpg: Any = importlib.import_module("asyncpg")
        async with asyncpg.create_pool(database.dsn) as pool:
            store = package.PostgresEventStore(pool, ttl=TTL, **options)
            await store.initialize()
            yield store
        return
    if database.backend == "redis":
        # With the client's own limit of connections the peer fails where many callers store at once.
        async with _redis_client(database.dsn, max_connections=_CONNECTIONS) as client:
            yield package.RedisEventStore(client, ttl=TTL, **options)
        return
    aiosqlite: Any = importlib.import_module("aiosqlite")
    async with aiosqlite.connect(database.path) as connection:
        await connection.execute(f"PRAGMA synchronous = {database.synchronous}")
        store = package.SQLiteEventStore(connection, ttl=TTL, **options)
        await store.initialize()
        yield store
        await store.aclose()


def _redis_client(dsn: str, **options: Any) -> Any:
    redis: Any = importlib.import_module("redis.asyncio")
    return redis.from_url(dsn, **options)


async def replay_by(store: Any, stream: str, after: str, receive: Receive) -> None:
    """By the seam of the SDK, which `fastmcp` has too."""

    async def send(event: Any) -> None:
        receive(event)

    assert await store.replay_events_after(after, send) == stream
