"""The bare driver, which keeps no promise: what is written here takes no numbers and checks nothing.

Nothing that uses this driver can be faster, so it shows how much of the way is left. Events are written all at once, as
if there were no callers; and as callers bring them (`grouped`), what comes during a commit with the next one.
"""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from mcp_types import JSONRPCMessage

from benchmarks.contestants.shape import Contestant, Receive
from benchmarks.databases import Database
from mcp_persist_sa.integrations.sdk import wire_text

NAME = "bare driver"
GROUPED = "bare driver, grouped"
_PAGE = 500

_Batch = list[tuple[str, str]]
"""Streams and texts."""


@asynccontextmanager
async def opened(database: Database) -> AsyncGenerator[Contestant, None]:
    """On a database."""
    if database.backend == "postgres":
        asyncpg: Any = importlib.import_module("asyncpg")
        connection = await asyncpg.connect(database.dsn)
        await connection.execute(
            "CREATE TABLE events (stream text, number bigint GENERATED ALWAYS AS IDENTITY, payload text,"
            " PRIMARY KEY (stream, number))"
        )
        driver = _Postgres(connection)
        yield _contestant(driver)
        await connection.close()
        return
    if database.backend == "redis":
        redis: Any = importlib.import_module("redis.asyncio")
        async with redis.from_url(database.dsn, decode_responses=True) as client:
            yield _contestant(_Redis(client))
        return
    connection = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {database.synchronous}")
    connection.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, stream TEXT, payload TEXT)")
    connection.execute("CREATE INDEX by_stream ON events (stream)")
    yield _contestant(_SQLite(connection))
    connection.close()


def _contestant(driver: _SQLite | _Postgres | _Redis) -> Contestant:
    async def store_together(events: list[tuple[str, JSONRPCMessage]]) -> None:
        await driver.write([(stream, wire_text(message)) for stream, message in events])

    async def fill(stream: str, messages: Sequence[JSONRPCMessage]) -> str:
        await store_together([(stream, message) for message in messages])
        return "0"

    return Contestant(
        NAME,
        fill,
        ways_to_store={GROUPED: _Grouped(driver).store},
        ways_to_replay={NAME: driver.replay},
        store_together=store_together,
    )


class _Grouped:
    """The least that has to be done for callers that wait."""

    def __init__(self, driver: _SQLite | _Postgres | _Redis) -> None:
        self._driver = driver
        self._waiting: list[tuple[tuple[str, str], asyncio.Future[None]]] = []
        self._running: asyncio.Task[None] | None = None

    async def store(self, stream: str, message: JSONRPCMessage) -> str:
        """Wait until it is stored."""
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(((stream, wire_text(message)), stored))
        if self._running is None:
            self._running = asyncio.create_task(self._drain())
        await stored
        return ""

    async def _drain(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await self._driver.write_apart([event for event, _ in batch])
            for _, stored in batch:
                stored.set_result(None)
        self._running = None


class _SQLite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def write(self, batch: _Batch) -> None:
        """In the thread of the event loop, so that no hop between threads counts."""
        self._write(batch)

    async def write_apart(self, batch: _Batch) -> None:
        """In another one, so that callers can go on meanwhile."""
        await asyncio.to_thread(self._write, batch)

    def _write(self, batch: _Batch) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO events (stream, payload) VALUES (?, ?)", batch)
        self._connection.execute("COMMIT")

    async def replay(self, stream: str, after: str, receive: Receive) -> None:
        place = int(after)
        while True:
            rows = self._connection.execute(
                "SELECT number, payload FROM events WHERE stream = ? AND number > ? ORDER BY number LIMIT ?",
                (stream, place, _PAGE),
            ).fetchall()
            for row in rows:
                receive(row)
            if len(rows) < _PAGE:
                return
            place = rows[-1][0]


class _Postgres:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def write(self, batch: _Batch) -> None:
        streams, payloads = zip(*batch, strict=True)
        await self._connection.execute(
            "INSERT INTO events (stream, payload) SELECT * FROM unnest($1::text[], $2::text[])", streams, payloads
        )

    write_apart = write

    async def replay(self, stream: str, after: str, receive: Receive) -> None:
        place = int(after)
        while True:
            rows = await self._connection.fetch(
                "SELECT number, payload FROM events WHERE stream = $1 AND number > $2 ORDER BY number LIMIT $3",
                *(stream, place, _PAGE),
            )
            for row in rows:
                receive(row)
            if len(rows) < _PAGE:
                return
            place = rows[-1][0]


class _Redis:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def write(self, batch: _Batch) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for stream, text in batch:
            pipeline.xadd(stream, {"m": text})
        await pipeline.execute()

    write_apart = write

    async def replay(self, stream: str, after: str, receive: Receive) -> None:
        place = after
        while True:
            rows = await self._client.xrange(stream, f"({place}", count=_PAGE)
            for row in rows:
                receive(row)
            if len(rows) < _PAGE:
                return
            place = rows[-1][0]
