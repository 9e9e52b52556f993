"""What the hunts share: what is really in the tables, and what may not be left behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping
from contextlib import closing, contextmanager
from itertools import groupby
from typing import Any, NamedTuple
from unittest.mock import patch

from mcp_persist_sa.connections import AsyncDatabase
from mcp_persist_sa.transactions import Work
from tests.contract.beside import events
from tests.contract.support import execute
from tests.databases import Database

HUNT = int(os.environ.get("MCP_PERSIST_SA_TEST_HUNT") or 1)
PATIENCE = 60
"""Seconds after which a wait is given up, so that what hangs fails."""


class Row(NamedTuple):
    """An event as it stands in the tables."""

    stream_id: str
    stream_key: str
    sequence: int
    event_id: str
    message: str
    final: bool


async def stored_rows(database: Database) -> list[Row]:
    """All events, read past the store, each stream's in order."""
    return [
        Row(name, key, sequence, f"{key}.{sequence}.{nonce}", message, bool(final))
        for name, key, sequence, nonce, message, final in await events(database)
    ]


def streams_of(rows: Collection[Row]) -> dict[str, list[Row]]:
    """The rows by stream key."""
    return {key: list(of_stream) for key, of_stream in groupby(rows, lambda row: row.stream_key)}


def check_streams(rows: Collection[Row]) -> None:
    """No stream has a hole, a second event at one place, or an event behind its end."""
    for of_stream in streams_of(rows).values():
        assert [row.sequence for row in of_stream] == list(range(1, len(of_stream) + 1))
        assert not any(row.final for row in of_stream[:-1])


def check_once(rows: Collection[Row], acknowledged: Mapping[str, str], asked: Collection[str] | None = None) -> None:
    """Each message that was acknowledged is there, once, under its id; no other is there twice, or was never asked for.

    Args:
        rows: What is stored.
        acknowledged: Messages, each of its own, by event id.
        asked: All that were given to the store; None if that is not known.
    """
    twice = [message for message, count in Counter(row.message for row in rows).items() if count > 1]
    assert not twice, f"stored twice: {twice[:10]}"
    there = {row.event_id: row.message for row in rows}
    lost = {id_: message for id_, message in acknowledged.items() if there.get(id_) != message}
    assert not lost, f"acknowledged and not there: {list(lost.items())[:10]}"
    if asked is not None:
        assert not set(there.values()) - set(asked)


def check_order(rows: Collection[Row]) -> None:
    """What one lane of one writer wrote (`writer/lane/number`) stands in each stream in its order."""
    for of_stream in streams_of(rows).values():
        numbers: dict[str, list[int]] = {}
        for row in of_stream:
            lane, separator, number = row.message.rpartition("/")
            if separator:
                numbers.setdefault(lane, []).append(int(number))
        for of_lane in numbers.values():
            assert of_lane == sorted(of_lane)


async def eventually(what: str, condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for what tells nobody that it has happened."""

    async def work() -> None:
        while True:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)

    try:
        await asyncio.wait_for(work(), PATIENCE)
    except asyncio.TimeoutError:
        raise AssertionError(f"it never came to this: {what}") from None


async def bounded(*calls: Awaitable[Any]) -> list[Any]:
    """The results and errors of calls that must end, whatever becomes of them."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    _, hanging = await asyncio.wait(tasks, timeout=PATIENCE)
    assert not hanging, f"these calls hang: {hanging}"
    return [task.exception() or task.result() for task in tasks]


class Pools:
    """The connections of asyncio engines that stores use, but for those that they keep at hand."""

    def __init__(self) -> None:
        self._databases: set[AsyncDatabase] = set()

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        attempt = AsyncDatabase.attempt

        async def noted(database: AsyncDatabase, work: Work[Any], **named: bool) -> Any:
            self._databases.add(database)
            return await attempt(database, work, **named)

        with patch.object(AsyncDatabase, "attempt", noted):
            yield

    @property
    def in_use(self) -> int:
        pools = [database.pool() for database in self._databases]
        return sum(pool.in_use for pool in pools if pool is not None)


CLIENTS = (
    "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)
"""The server processes of everybody else's connections to a Postgres database."""

_LEFT_OPEN = f"SELECT count(*) FROM {CLIENTS} AND state LIKE 'idle in%'"


async def check_nothing_left(database: Database, pools: Pools) -> None:
    """No connection is out of its pool, no transaction is open, no lock is held; the calls have ended already."""
    await eventually("no connection is in use", lambda: pools.in_use == 0)
    if database.kind == "postgres":
        assert await execute(database, _LEFT_OPEN) == [(0,)]
    if database.kind == "sqlite":
        check_no_lock(database)


def check_no_lock(database: Database) -> None:
    """Nobody holds a read or write transaction of a SQLite file: its log can be emptied at once."""
    with closing(sqlite3.connect(database.dsn.removeprefix("sqlite:///"), timeout=0)) as file:
        assert file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "a transaction is open"


def check_intact(database: Database) -> None:
    """A SQLite file is not damaged."""
    if database.kind == "sqlite":
        with closing(sqlite3.connect(database.dsn.removeprefix("sqlite:///"), timeout=PATIENCE)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
