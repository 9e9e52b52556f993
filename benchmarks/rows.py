"""Fills tables with more events than could be stored one by one in the time that there is.

This is the one place that knows how the tables look: ours, and the peer's as its documentation describes it.
"""

from __future__ import annotations

import asyncio
import importlib
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.databases import Database
from benchmarks.figures import OURS, PEER


class Rows(NamedTuple):
    """Events number `first` to `last` (exclusive) of so many streams, of which each has the next in turn."""

    first: int
    last: int
    streams: int
    age: int = 0
    """Seconds since they were stored."""


BACKENDS = ("sqlite", "postgres")
"""Redis has no tables, and removes by itself what has expired."""

_SIZE = 344
_BEGINNING, _END = '{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":"', '"}}}}'
_TEXT = _BEGINNING + "x" * (_SIZE - len((_BEGINNING + _END).format())) + _END

_SERIES = {
    "sqlite": "(WITH RECURSIVE n(i) AS (VALUES({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last} - 1)"
    " SELECT i FROM n) AS series",
    "postgres": "generate_series({first}, {last} - 1) AS series(i)",
}
_SESSION_KEY = {
    "sqlite": "substr('session' || (i % {streams}) || '____________________', 1, 20)",
    "postgres": "rpad('session' || (i % {streams}), 20, '_')",
}
_STREAM_KEY = "'strm' || (i % {streams})"
_STORED_AT = {
    "sqlite": "CAST(strftime('%s', 'now') - {age} AS INTEGER) * 1000000",
    "postgres": "clock_timestamp() - interval '{age} seconds'",
}
_UNIX_TIME = {
    "sqlite": "CAST(strftime('%s', 'now') - {age} AS INTEGER)",
    "postgres": "extract(epoch FROM clock_timestamp()) - {age}",
}


def _ours(backend: str) -> list[str]:
    session, stream, at = _SESSION_KEY[backend], _STREAM_KEY, _STORED_AT[backend]
    return [
        "INSERT INTO mcp_events (session_key, stream_key, sequence, nonce, final, size, created_at, message)"
        f" SELECT {session}, {stream}, i / {{streams}} + 1, 'nonce', false, {_SIZE}, {at}, '{_TEXT}'"
        f" FROM {_SERIES[backend]}",
        "INSERT INTO mcp_streams (session_key, stream_key, stream_id, namespace, claimed, finished, last_sequence,"
        " purged_through, created_at, updated_at)"
        f" SELECT {session}, {stream}, '1', '', false, true, {{length}}, 0, {at}, {at}"
        f" FROM {_SERIES[backend]} WHERE i < {{streams}}",
    ]


def _peers(backend: str) -> list[str]:
    return [
        "INSERT INTO mcp_events (stream_id, payload, created_at)"
        f" SELECT 'stream' || (i % {{streams}}), '{_TEXT}', {_UNIX_TIME[backend]} FROM {_SERIES[backend]}"
    ]


_TABLES: dict[str, Callable[[str], list[str]]] = {OURS: _ours, PEER: _peers}


async def fill(name: str, database: Database, rows: Rows) -> None:
    """Insert rows into the tables of a contestant."""
    values = {**rows._asdict(), "length": -(-rows.last // rows.streams)}
    await execute(database, [statement.format(**values) for statement in _TABLES[name](database.backend)])


async def settle(database: Database) -> None:
    """Have the database look after what was inserted now, and not while something is measured."""
    checkpoint = ["ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"]
    await execute(database, checkpoint if database.backend == "sqlite" else ["VACUUM ANALYZE", "CHECKPOINT"])


async def count(name: str, database: Database) -> int:
    """How many events a contestant has."""
    assert name in _TABLES
    [row] = await execute(database, ["SELECT count(*) FROM mcp_events"])
    return int(row[0])


async def execute(database: Database, statements: list[str]) -> list[Any]:
    """Run statements on a connection of their own, and give the rows of the last."""
    if database.backend == "sqlite":
        return await asyncio.to_thread(_on_sqlite, database, statements)
    asyncpg: Any = importlib.import_module("asyncpg")
    connection = await asyncpg.connect(database.dsn)
    try:
        return [await connection.fetch(statement) for statement in statements][-1]
    finally:
        await connection.close()


def _on_sqlite(database: Database, statements: list[str]) -> list[Any]:
    connection = sqlite3.connect(database.path, isolation_level=None, timeout=60)
    try:
        connection.execute("PRAGMA cache_size = -400000")
        return [connection.execute(statement).fetchall() for statement in statements][-1]
    finally:
        connection.close()
