"""Empty databases to measure on, and the servers that hold them."""

from __future__ import annotations

import asyncio
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.servers import PostgresServer

FULL, NORMAL = "FULL", "NORMAL"

REDIS_SETTINGS = {"appendonly": "yes", "appendfsync": "everysec", "databases": "64"}
"""As most run it. So what Redis has acknowledged can be lost in a power cut, for every contestant."""


@dataclass(frozen=True)
class Database:
    """An empty database, and how durable what is written to it has to be.

    Attributes:
        backend: `sqlite`, `postgres` or `redis`.
        dsn: As the store of this package takes it, and drivers do.
        synchronous: Of SQLite; elsewhere the server's setting counts.
    """

    backend: str
    dsn: str
    synchronous: str = FULL

    @property
    def path(self) -> Path:
        """The file, on SQLite."""
        return Path(self.dsn.removeprefix("sqlite:///"))


class Databases:
    """Makes databases of one kind."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.backend = backend
        self._folder = folder
        self._numbers = count(1)
        self._free = [*range(64)]
        self.postgres: PostgresServer | None = None
        self._redis: Any = None

    async def start(self) -> None:
        """Start the server, where there is one."""
        if self.backend == "postgres":
            self.postgres = PostgresServer(private=True)
            await asyncio.to_thread(self.postgres.start)
        if self.backend == "redis":
            servers: Any = importlib.import_module("tests.servers.redis")
            self._redis = servers.RedisServer(servers.find_valkey(), REDIS_SETTINGS)
            await asyncio.to_thread(self._redis.start)

    async def stop(self) -> None:
        """Stop it, and remove all that it has written."""
        for server in (self.postgres, self._redis):
            if server is not None:
                await asyncio.to_thread(server.close)

    @asynccontextmanager
    async def new(self, synchronous: str = FULL) -> AsyncGenerator[Database, None]:
        """One more database, which is removed at the end."""
        name = f"bench_{next(self._numbers)}"
        if self.postgres is not None:
            dsn = await asyncio.to_thread(self.postgres.create_database, name)
            try:
                yield Database("postgres", dsn)
            finally:
                await asyncio.to_thread(self.postgres.drop_database, name)
        elif self._redis is not None:
            async with self._numbered() as dsn:
                yield Database("redis", dsn)
        else:
            with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                yield Database("sqlite", f"sqlite:///{folder}/{name}.db", synchronous)

    @asynccontextmanager
    async def _numbered(self) -> AsyncGenerator[str, None]:
        """One of Redis' databases, which have numbers."""
        number = self._free.pop()
        dsn = f"redis://{self._redis.host}:{self._redis.port}/{number}"
        try:
            yield dsn
        finally:
            client: Any = importlib.import_module("redis.asyncio").from_url(dsn)
            await client.flushdb()
            await client.aclose()
            self._free.append(number)


@asynccontextmanager
async def databases(backend: str) -> AsyncGenerator[Databases, None]:
    """What makes databases of one kind, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="mcp-persist-sa-benchmark-") as folder:
        made = Databases(backend, Path(folder))
        await made.start()
        try:
            yield made
        finally:
            await made.stop()


def sync_cost() -> float:
    """Microseconds to make an appended page durable, which bounds what one caller can do on SQLite."""
    with tempfile.TemporaryFile() as file:
        taken: list[float] = []
        for _ in range(200):
            file.write(b"x" * 4096)
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return statistics.median(taken) * 1e6
