"""What the contract tests do to a database past the store."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from redis import asyncio as aioredis

from tests.contract.support import PATIENCE, execute
from tests.databases import Database

_TABLES = {
    "sessions": "mcp_sessions",
    "streams": "mcp_streams",
    "events": "mcp_events",
    "state": "mcp_session_state",
}


async def lose_events(database: Database, *sequences: int) -> None:
    """Remove the events of these numbers as if they had never been stored."""
    if not database.is_redis:
        await execute(database, f"DELETE FROM mcp_events WHERE sequence IN ({', '.join(map(str, sequences))})")
        return
    async with _client(database) as client:
        for key in await _keys(client, database, "}:e:*"):
            for event in await client.lrange(key, 0, -1):
                if int(event.split(b":")[0]) in sequences:
                    await client.lrem(key, 1, event)


async def alter_event(database: Database, sequence: int, old: str, new: str) -> None:
    """Change the message of events of this number."""
    if not database.is_redis:
        statement = f"UPDATE mcp_events SET message = '{new}' WHERE sequence = {sequence} AND message = '{old}'"
        await execute(database, statement)
        return
    async with _client(database) as client:
        for key in await _keys(client, database, "}:e:*"):
            for index, event in enumerate(await client.lrange(key, 0, -1)):
                number, at, content = event.decode().split(":", 2)
                if (int(number), content[9:]) == (sequence, old):
                    await client.lset(key, index, f"{number}:{at}:{content[:9]}{new}")


async def spoil_session(database: Database, session_id: str) -> None:
    """Make a session's record one that cannot be read."""
    if not database.is_redis:
        await execute(database, f"UPDATE mcp_sessions SET client_info = '{{' WHERE session_id = '{session_id}'")
        return
    async with _client(database) as client:
        for key in await _keys(client, database, "}:s"):
            if await client.hget(key, "i") == session_id.encode():
                await client.hset(key, "c", "{")


async def on_duty(database: Database) -> list[str]:
    """The node that keeps the namespace in order, if there is one."""
    if not database.is_redis:
        return [holder for (holder,) in await execute(database, "SELECT holder FROM mcp_leases")]
    async with _client(database) as client:
        found = [await client.get(key) for key in await _keys(client, database, "nodes}:tending")]
        return [value.decode().partition(" ")[2] for value in found if value]


async def count(database: Database, what: str) -> int:
    """How many sessions, streams, events, or values and marks of deleted ones there are."""
    if not database.is_redis:
        return (await execute(database, f"SELECT count(*) FROM {_TABLES[what]}"))[0][0]
    async with _client(database) as client:
        if what == "sessions":
            return len(await _keys(client, database, "}:s"))
        if what == "state":
            return sum([await client.hlen(key) for key in await _keys(client, database, "}:v")])
        return sum(
            [await client.llen(key) for key in await _keys(client, database, "}:o" if what == "streams" else "}:e:*")]
        )


async def values(database: Database) -> list[str]:
    """The values of all states, as they are stored."""
    if not database.is_redis:
        return [row[0] for row in await execute(database, "SELECT value FROM mcp_session_state")]
    async with _client(database) as client:
        found = [await client.hvals(key) for key in await _keys(client, database, "}:j")]
        return [value.decode() for each in found for value in each]


async def events(database: Database) -> list[tuple[str, str, int, str, str, bool]]:
    """Of each event the stream's name and key, number, nonce, message, and whether it is final; in their order."""
    if not database.is_redis:
        return await execute(
            database,
            "SELECT s.stream_id, e.stream_key, e.sequence, e.nonce, e.message, e.final FROM mcp_events AS e "
            "JOIN mcp_streams AS s ON s.session_key = e.session_key AND s.stream_key = e.stream_key "
            "ORDER BY e.stream_key, e.sequence",
        )
    found: list[tuple[str, str, int, str, str, bool]] = []
    async with _client(database) as client:
        for key in await _keys(client, database, "}:e:*"):
            base, _, stream = key.decode().partition(":e:")
            name = (await client.hget(f"{base}:t", f"k{stream}")).decode().split(" ", 12)[12]
            for event in await client.lrange(key, 0, -1):
                number, _, content = event.decode().split(":", 2)
                found.append((name, stream, int(number), content[:8], content[9:], content[8].isupper()))
    return sorted(found, key=lambda event: event[1:3])


@asynccontextmanager
async def locked(database: Database) -> AsyncGenerator[None, None]:
    """Nobody can write an event."""
    if database.is_redis:
        async with _client(database) as client:
            everywhere = {"target_nodes": "all"} if isinstance(client, aioredis.RedisCluster) else {}
            await client.execute_command("CONFIG SET", "maxmemory", "1", **everywhere)
            try:
                yield
            finally:
                await client.execute_command("CONFIG SET", "maxmemory", "0", **everywhere)
    elif database.is_postgres:
        connection: Any = await asyncpg.connect(database.dsn, timeout=PATIENCE)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE mcp_events IN EXCLUSIVE MODE")
                yield
        finally:
            await connection.close(timeout=PATIENCE)
    else:
        with closing(sqlite3.connect(database.dsn.removeprefix("sqlite:///"), isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield
            file.execute("ROLLBACK")


class RedisBackup:
    """A copy of all keys, taken at one moment and put back later."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._values: dict[bytes, bytes] = {}

    async def take(self) -> None:
        async with _client(self._database) as client:
            for key in await _keys(client, self._database, "*"):
                self._values[key] = await client.dump(key) or b""

    async def put_back(self) -> None:
        async with _client(self._database) as client:
            for key in await _keys(client, self._database, "*"):
                await client.delete(key)
            for key, value in self._values.items():
                await client.restore(key, 0, value)


def _client(database: Database) -> Any:
    parts = urlsplit(database.dsn)
    if parts.scheme == "redis+cluster":
        return aioredis.RedisCluster(host=parts.hostname, port=parts.port or 0)
    return aioredis.Redis(host=parts.hostname or "", port=parts.port or 0)


async def _keys(client: Any, database: Database, part: str) -> Sequence[bytes]:
    prefix = parse_qs(urlsplit(database.dsn).query)["key_prefix"][0]
    return [key async for key in client.scan_iter(match=f"{{{prefix}:*{part}", count=1000)]
