"""What the contract tests share: a clock that they set, and raw SQL beside the store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

import asyncpg

from mcp_persist_sa import Event, Gap, NewEvent, Page, Store
from tests.databases import Database

T = TypeVar("T")

PATIENCE = 20
"""Seconds after which a wait is given up, so that a promise that is broken fails instead of hanging."""


class Clock:
    """The time, as `options.clock` takes it: it goes on only when told."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **span: float) -> datetime:
        self.time += timedelta(**span)
        return self.time


async def fill(store: Store, session_id: str, stream_id: str, count: int, *, final: bool = False) -> list[str]:
    """Append the messages "1" to `count` and give their event ids."""
    events = [NewEvent(str(n), final and n == count) for n in range(1, count + 1)]
    return await store.append_many(session_id, stream_id, events)


def messages(page: Page) -> list[str | None]:
    return [event.message for event in page.events]


async def to_the_end(store: Store, session_id: str, **place: Any) -> list[Event | Gap]:
    """Read page by page until there is no more."""
    items: list[Event | Gap] = []
    page = await store.read(session_id, **place)
    items += page.items
    while page.more:
        page = await store.read(session_id, after=page.event_id)
        items += page.items
    return items


async def take(items: AsyncIterator[T], count: int) -> list[T]:
    """The next items of a tail."""
    return [await asyncio.wait_for(anext(items), PATIENCE) for _ in range(count)]


async def rest(items: Any) -> list[Any]:
    """All items of a tail up to its end."""

    async def work() -> list[Any]:
        async with aclosing(items):
            return [item async for item in items]

    return await asyncio.wait_for(work(), PATIENCE)


async def execute(database: Database, statement: str) -> list[Any]:
    """Run a statement on a connection of its own, past the store, and give its rows."""
    assert database.kind in ("sqlite", "postgres"), "nobody else can open this database"
    if database.is_postgres:
        connection: Any = await asyncpg.connect(database.dsn, timeout=PATIENCE)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close(timeout=PATIENCE)
    with closing(sqlite3.connect(database.dsn.removeprefix("sqlite:///"), timeout=PATIENCE)) as file, file:
        return file.execute(statement).fetchall()
