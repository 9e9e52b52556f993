"""What outlives an example: one database, its engines, and the event loop to which they belong."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from mcp_persist_sa import Store, open_store
from tests.databases import Database

T = TypeVar("T")

PATIENCE = 60
"""Seconds after which a wait is given up, so that a promise that is broken fails instead of hanging."""


class World:
    """A database for many examples, each of which has namespaces of its own."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.new_event_loop()
        self._database = database
        self._numbers = itertools.count(1)
        self.run(self._prepare())

    async def _prepare(self) -> None:
        """Bring the database up to date, and make the engines of two nodes where the caller brings them."""
        if self.nodes == 2:
            for _ in range(2):
                store = await self._database.open()
                await store.close()

    @property
    def nodes(self) -> int:
        """How many nodes can open the database."""
        return 1 if self._database.kind == "sqlite-memory" else 2

    @property
    def _engines(self) -> list[AsyncEngine]:
        return self._database.engines

    def new_namespace(self) -> str:
        return f"example {next(self._numbers)}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(work, PATIENCE))

    async def open(self, node: int, **options: Any) -> Store:
        source = self._engines[node] if self._engines else self._database.dsn
        store = Store(source, **options) if isinstance(source, AsyncEngine) else open_store(source, **options)
        return await store.open()

    def close(self) -> None:
        self.run(self._database.close())
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.close()
