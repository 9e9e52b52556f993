"""`PRAGMA data_version`: one connection sees that others have written, and finds out to which sessions."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from math import inf
from time import monotonic

import sqlalchemy as sa

from mcp_persist_sa.apart import Run
from mcp_persist_sa.database import Database
from mcp_persist_sa.faults import Backoff, describe
from mcp_persist_sa.hints import Hint, Waiter
from mcp_persist_sa.notifiers.fanout import FanOut
from mcp_persist_sa.options import Options
from mcp_persist_sa.schema import events, sessions
from mcp_persist_sa.transactions import pause

logger = logging.getLogger(__name__)

_INTERVAL = 0.005
_QUIET_INTERVAL = 0.02
_QUIET_AFTER = 1.0
"""Seconds without a write, after which it is looked less often: each look takes the interpreter from the event loop."""
_SESSIONS_INTERVAL = 0.1
_MOST = 5000

_rowid = sa.literal_column("rowid", sa.Integer())
_NEWEST = sa.select(_rowid, events.c.nonce).select_from(events).order_by(_rowid.desc()).limit(1)
_SINCE = (
    sa.select(_rowid, events.c.nonce, events.c.session_key, events.c.stream_key, events.c.sequence)
    .select_from(events)
    .where(_rowid >= sa.bindparam("last", type_=sa.Integer()))
    .order_by(_rowid)
    .limit(_MOST)
)
_waiting = sa.func.json_each(sa.bindparam("keys", type_=sa.Text())).table_valued("value")
_OPEN = sa.select(sessions.c.session_key).where(
    sessions.c.closed_at.is_(None), sessions.c.session_key.in_(sa.select(_waiting.c.value))
)


class Changes:
    """What has changed in a file since it was looked at last.

    Attributes:
        seen: Whether the last wait ended because somebody had written.
    """

    def __init__(self) -> None:
        self.seen = False
        self._version = 0
        self._last = 0
        self._nonce: str | None = None
        self._changed_at = -inf

    def begin(self, connection: sa.Connection) -> None:
        """Take what there is for known."""
        self._version = _data_version(connection)
        newest = connection.execute(_NEWEST).first()
        connection.rollback()
        self._last, self._nonce = (0, None) if newest is None else (newest.rowid, newest.nonce)

    def wait(self, connection: sa.Connection, wanted: Callable[[], bool]) -> set[Hint] | None:
        """Wait until somebody has written, as long as it is wanted; None where it cannot be told what was written."""
        self.seen = False
        while wanted():
            version = _data_version(connection)
            if version != self._version:
                self.seen, self._version, self._changed_at = True, version, monotonic()
                return self._news(connection)
            is_quiet = monotonic() - self._changed_at > _QUIET_AFTER
            pause(connection, _QUIET_INTERVAL if is_quiet else _INTERVAL)
        return set()

    def _news(self, connection: sa.Connection) -> set[Hint] | None:
        rows = connection.execute(_SINCE, {"last": self._last}).all()
        connection.rollback()
        if self._nonce is not None:
            if not rows or (rows[0].rowid, rows[0].nonce) != (self._last, self._nonce):
                # The newest was removed, and its number may have been given again.
                self.begin(connection)
                return None
            rows = rows[1:]
        if rows:
            self._last, self._nonce = rows[-1].rowid, rows[-1].nonce
        if len(rows) >= _MOST - 1:
            self.begin(connection)
            return None
        newest = {(row.session_key, row.stream_key): row.sequence for row in rows}
        return {Hint(*stream, sequence) for stream, sequence in newest.items()}


def _data_version(connection: sa.Connection) -> int:
    """Past SQLAlchemy, so that no hook of the caller's engine begins a transaction, in which it would not change."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA data_version")
        row = cursor.fetchone()
    finally:
        cursor.close()
    assert row is not None
    return row[0]


def _open_sessions(connection: sa.Connection, keys: list[str]) -> set[str]:
    found = set(connection.scalars(_OPEN, {"keys": json.dumps(keys)}))
    connection.rollback()
    return found


class SQLiteNotifier(FanOut):
    """Looks whether other processes have written to the file, while somebody waits."""

    def __init__(self, database: Database, options: Options) -> None:
        super().__init__(options.poll_interval, "polling")
        self._database = database
        self._attended = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._were_open: dict[str, bool] = {}
        self._look_at_sessions = False
        self._not_before = 0.0

    @contextmanager
    def listen(self, session_key: str) -> Generator[Waiter, None, None]:
        with super().listen(session_key) as waiter:
            self._attended.set()
            if self._running is None and not self.closed:
                self._running = asyncio.create_task(self._keep_watching())
            yield waiter

    async def close(self) -> None:
        await super().close()
        self._attended.set()
        if self._running is not None:
            # Not cancelled: the driver of asyncio leaves a connection behind that is being made.
            await asyncio.wait({self._running})

    async def _keep_watching(self) -> None:
        while not self.closed:
            async for _ in Backoff(inf):
                try:
                    async with self._database.apart() as run:
                        await self._watch(run)
                except Exception as error:
                    logger.info("The file cannot be watched for the moment: %(error)s", {"error": describe(error)})
                if self._mode == "listening" or self.closed:
                    self._become("reconnecting")
                    break

    async def _watch(self, run: Run) -> None:
        changes = Changes()
        await self._attended.wait()
        while not self.closed:
            await run(changes.begin)
            self._reconnects += self._mode == "reconnecting"
            self._become("listening")
            # Those who came before the beginning may have missed what came before it, too.
            self._wake_all()
            while self._waiters and not self.closed:
                await self._tell(run, changes)
            if not self._waiters and not self.closed:
                self._attended.clear()
            await self._attended.wait()

    async def _tell(self, run: Run, changes: Changes) -> None:
        hints = await run(partial(changes.wait, wanted=self._is_wanted))
        if hints is None:
            self._wake_all()
        else:
            self._wake(hints)
        # That something was written which is no event is all that is known of the end of a session.
        self._look_at_sessions = self._look_at_sessions or changes.seen
        if self._look_at_sessions and monotonic() >= self._not_before:
            self._look_at_sessions, self._not_before = False, monotonic() + _SESSIONS_INTERVAL
            await self._wake_the_closed(run)

    def _is_wanted(self) -> bool:
        """Called in the thread that waits."""
        due = self._look_at_sessions and monotonic() >= self._not_before
        return bool(self._waiters) and not self.closed and not due

    async def _wake_the_closed(self, run: Run) -> None:
        keys = list(self._waiters)
        are_open = await run(partial(_open_sessions, keys=keys))
        self._wake({Hint(key) for key in keys if key not in are_open and self._were_open.get(key, True)})
        self._were_open = {key: key in are_open for key in keys}
