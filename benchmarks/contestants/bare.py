"""The bare driver, which keeps no promise: what is written here takes no numbers and checks nothing.

Nothing that uses this driver can be faster, so it shows how much of the way is left.
"""

from __future__ import annotations

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
_PAGE = 500


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
    connection = sqlite3.connect(database.path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {database.synchronous}")
    connection.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, stream TEXT, payload TEXT)")
    connection.execute("CREATE INDEX by_stream ON events (stream)")
    yield _contestant(_SQLite(connection))
    connection.close()


def _contestant(driver: _SQLite | _Postgres | _Redis) -> Contestant:
    async def fill(stream: str, messages: Sequence[JSONRPCMessage]) -> str:
        await driver.store_together([(stream, message) for message in messages])
        return "0"

    return Contestant(NAME, fill, ways_to_replay={NAME: driver.replay}, store_together=driver.store_together)


class _SQLite:
    """In the thread of the event loop, so that no hop between threads counts."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def store_together(self, events: list[tuple[str, JSONRPCMessage]]) -> None:
        rows = [(stream, wire_text(message)) for stream, message in events]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO events (stream, payload) VALUES (?, ?)", rows)
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

    async def store_together(self, events: list[tuple[str, JSONRPCMessage]]) -> None:
        streams, payloads = [stream for stream, _ in events], [wire_text(message) for _, message in events]
        await self._connection.execute(
            "INSERT INTO events (stream, payload) SELECT * FROM unnest($1::text[], $2::text[])", streams, payloads
        )

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

    async def store_together(self, events: list[tuple[str, JSONRPCMessage]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for stream, message in events:
            pipeline.xadd(stream, {"m": wire_text(message)})
        await pipeline.execute()

    async def replay(self, stream: str, after: str, receive: Receive) -> None:
        place = after
        while True:
            rows = await self._client.xrange(stream, f"({place}", count=_PAGE)
            for row in rows:
                receive(row)
            if len(rows) < _PAGE:
                return
            place = rows[-1][0]
