"""The event store of fastmcp, on the key-value stores that come closest: diskcache's SQLite file, Postgres, Redis."""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from mcp_types import JSONRPCMessage

from benchmarks.contestants.mcp_persist import TTL, replay_by
from benchmarks.contestants.shape import Contestant, fill_by
from benchmarks.databases import FULL, Database

NAME = "fastmcp"
_MOST_EVENTS = 2000
"""By default it keeps a hundred. Its cost of an event grows with what a stream may hold."""


@asynccontextmanager
async def opened(database: Database) -> AsyncGenerator[Contestant, None]:
    """On a database."""
    package: Any = importlib.import_module("fastmcp.server.event_store")
    async with _open_storage(database) as storage:
        store = package.EventStore(storage, ttl=TTL)
        large = package.EventStore(storage, ttl=TTL, max_events_per_stream=_MOST_EVENTS)

        async def fill(stream: str, messages: Sequence[JSONRPCMessage]) -> str:
            return await fill_by(large.store_event, stream, messages, at_once=1)

        replay = partial(replay_by, large)
        yield Contestant(NAME, fill, {NAME: store.store_event}, {NAME: replay}, slow=True)


@asynccontextmanager
async def _open_storage(database: Database) -> AsyncGenerator[Any, None]:
    if database.backend == "postgres":
        postgres: Any = importlib.import_module("key_value.aio.stores.postgresql")
        async with postgres.PostgreSQLStore(url=database.dsn) as storage:
            yield storage
        return
    if database.backend == "redis":
        redis: Any = importlib.import_module("key_value.aio.stores.redis")
        async with redis.RedisStore(url=database.dsn) as storage:
            yield storage
        return
    disk: Any = importlib.import_module("key_value.aio.stores.disk")
    diskcache: Any = importlib.import_module("diskcache")
    folder = database.path.parent / "diskcache"
    with diskcache.Cache(folder, sqlite_synchronous=2 if database.synchronous == FULL else 1) as cache:
        # An empty one is taken for none.
        cache["not"] = "empty"
        async with disk.DiskStore(disk_cache=cache) as storage:
            yield storage
