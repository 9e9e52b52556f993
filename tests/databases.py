"""The databases that contract tests run on, each opened as many times as a test likes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mcp_persist_sa.engine import configure_sqlite
from mcp_persist_sa.store import Store, open_store

SQL: tuple[str, ...] = ("sqlite", "postgres")
"""SQL databases that several stores, and other processes, can open."""

REDIS: tuple[str, ...] = ("valkey", "redis", "redis-6.2", "valkey-cluster")
"""Servers of Redis' kind; 6.2 is the oldest that is supported."""

SHARED: tuple[str, ...] = (*SQL, *REDIS)
"""Databases that several stores, and other processes, can open."""

DISTINCT: tuple[str, ...] = (*SQL, "valkey-cluster")
"""The same, but of Redis' kind only the one that differs most: for tests that start processes."""

TABLES: tuple[str, ...] = (*SQL, "sqlite-memory", "sqlite-engine", "postgres-engine")
"""All that take SQL: also a database in memory, and engines that the caller owns."""

ALL: tuple[str, ...] = (*TABLES, *REDIS)
"""Each kind there is."""


@dataclass
class Database:
    """A migrated, empty database of one kind."""

    kind: str
    dsn: str
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _engines: list[AsyncEngine] = field(default_factory=list[AsyncEngine])

    @property
    def is_redis(self) -> bool:
        return self.kind in REDIS

    @property
    def is_postgres(self) -> bool:
        return self.kind.startswith("postgres")

    @property
    def engines(self) -> list[AsyncEngine]:
        """The caller's engines, where the kind has them."""
        return self._engines

    async def open(self, **options: Any) -> Store:
        """Open one more store (one more node) on it; it is closed at the end of the test."""
        if self.kind.endswith("-engine"):
            self._engines.append(self._new_engine())
            store = Store(self._engines[-1], **options)
        else:
            store = open_store(self.dsn, **options)
        return await self._stack.enter_async_context(store)

    def _new_engine(self) -> AsyncEngine:
        if self.is_postgres:
            return create_async_engine(self.dsn.replace("postgresql://", "postgresql+asyncpg://"), pool_size=10)
        engine = create_async_engine(self.dsn.replace("sqlite://", "sqlite+aiosqlite://"))
        configure_sqlite(engine)
        return engine

    async def close(self) -> None:
        await self._stack.aclose()
        for engine in self._engines:
            await engine.dispose()


def make(kind: str, folder: Path, new_postgres: Callable[[], str], new_redis: Callable[[str], str]) -> Database:
    """A database of that kind; `new_postgres` gives the DSN of a migrated, empty one, `new_redis` that of a prefix."""
    if kind in REDIS:
        return Database(kind, new_redis(kind))
    if kind.startswith("postgres"):
        return Database(kind, new_postgres())
    return Database(kind, "sqlite://" if kind == "sqlite-memory" else f"sqlite:///{folder / 'store.db'}")
