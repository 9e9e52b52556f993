"""The tables of mcp-persist (1.x and 2.x) in SQLite and Postgres, read in pages."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.connections import AsyncDatabase, ThreadDatabase
from mcp_persist_sa.database import Database, read
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.engine import postgres_engine, sqlite_engine
from mcp_persist_sa.errors import InvalidDSN, InvalidInput, SchemaMissing
from mcp_persist_sa.options import Options

_PAGE = 200
_GZIP = 16 + zlib.MAX_WBITS
_MOST = 100 * 1024 * 1024
_EVENTS = ("event_id", "stream_id", "payload", "created_at")
_SESSIONS = ("session_id", "tenant_id", "created_at", "last_seen_at", "terminated", "owner", "handshake")


class OldSession(NamedTuple):
    """A session as mcp-persist kept it."""

    session_id: str
    tenant: str | None
    created_at: datetime
    last_seen_at: datetime
    terminated: bool
    owner: dict[str, str | None] | None
    handshake: dict[str, Any] | None


class OldEvent(NamedTuple):
    """An event as mcp-persist kept it."""

    number: int
    payload: str
    created_at: datetime


@asynccontextmanager
async def opened_tables(dsn: str, events: str, sessions: str) -> AsyncGenerator[Tables, None]:
    """The tables of a database, from which is only read.

    Raises:
        SchemaMissing: There are none.
        StoreUnavailable: The database cannot be reached.
    """
    parsed, options = parse(dsn), Options(background=False)
    if parsed.kind == "sqlite":
        database: Database = ThreadDatabase(sqlite_engine(parsed, options), timeout=options.timeout, readers=1)
    elif parsed.kind == "postgresql":
        engine = postgres_engine(parsed, options, pooled=True, pooler=True)
        database = AsyncDatabase(engine, timeout=options.timeout, owned=True)
    else:
        raise InvalidDSN(
            "What mcp-persist keeps in Redis cannot be imported; `mcp-persist migrate` moves it to SQLite."
        )
    try:
        tables = Tables(database, parsed.options.get("schema"), events, sessions)
        await tables.look()
        yield tables
    finally:
        await database.close()


class Tables:
    """The tables of events and of sessions, of which the second may be missing."""

    def __init__(self, database: Database, schema: str | None, events: str, sessions: str) -> None:
        self._database = database
        self._schema = schema
        self._events = sa.table(events, *map(sa.column, _EVENTS), schema=schema)
        self._names = (events, sessions)
        self._sessions: Any = None

    async def look(self) -> None:
        """Find out what there is."""
        events, sessions = self._names
        columns = {name: await read(self._database, partial(self._columns, name)) for name in self._names}
        if not {*_EVENTS} <= columns[events]:
            raise SchemaMissing(
                f"There is no table {events!r} of mcp-persist in this database. Name it, or correct the DSN."
            )
        if {"session_id", "terminated"} <= columns[sessions]:
            found: list[Any] = [
                sa.column(name) if name in columns[sessions] else sa.null().label(name) for name in _SESSIONS
            ]
            table = sa.table(sessions, *map(sa.column, columns[sessions]), schema=self._schema)
            self._sessions = sa.select(*found).select_from(table).order_by(sa.column("session_id"))

    def _columns(self, name: str, connection: sa.Connection) -> set[str]:
        inspector = sa.inspect(connection)
        if not inspector.has_table(name, schema=self._schema):
            return set()
        return {column["name"] for column in inspector.get_columns(name, schema=self._schema)}

    async def sessions(self) -> AsyncGenerator[list[OldSession], None]:
        """The sessions in the order of their ids."""
        after = ""
        while self._sessions is not None:
            page = self._sessions.where(sa.column("session_id") > after).limit(_PAGE)
            rows = await read(self._database, partial(_all, page))
            if not rows:
                return
            yield [_session(row) for row in rows]
            after = rows[-1].session_id

    async def streams(self) -> AsyncGenerator[list[str], None]:
        """The names of the streams, in their order."""
        column = self._events.c.stream_id
        after = ""
        while True:
            page = sa.select(column).where(column > after).group_by(column).order_by(column).limit(_PAGE)
            names = [row[0] for row in await read(self._database, partial(_all, page))]
            if not names:
                return
            yield names
            after = names[-1]

    async def events(self, stream: str, limit: int) -> AsyncGenerator[list[OldEvent], None]:
        """The events of a stream, in the order of their numbers."""
        table, after = self._events.c, -1
        while True:
            page = (
                sa.select(table.event_id, table.payload, table.created_at)
                .where(table.stream_id == stream, table.event_id > after)
                .order_by(table.event_id)
                .limit(limit)
            )
            rows = await read(self._database, partial(_all, page))
            if not rows:
                return
            yield [OldEvent(row.event_id, row.payload, _moment(row.created_at)) for row in rows]
            after = rows[-1].event_id


def _all(statement: Any, connection: sa.Connection) -> list[Any]:
    return list(connection.execute(statement).all())


def _session(row: Any) -> OldSession:
    return OldSession(
        row.session_id,
        row.tenant_id or None,
        _moment(row.created_at),
        _moment(row.last_seen_at),
        bool(row.terminated),
        _json(row.owner),
        _json(row.handshake),
    )


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def message_of(payload: str) -> str | None:
    """The message of a payload; None for a priming event.

    Raises:
        InvalidInput: It is encrypted, or compressed in a way that cannot be read here.
    """
    if payload.startswith("gz:"):
        return _unpacked(payload[3:])
    if payload.startswith(("en:", "ea:", "zs:")):
        how = "compressed with zstd" if payload.startswith("zs:") else "encrypted"
        raise InvalidInput(f"Its events are {how}. Let mcp-persist copy them to a plain store first, with `migrate`.")
    return payload or None


def _unpacked(text: str) -> str:
    unpacking = zlib.decompressobj(_GZIP)
    try:
        found = unpacking.decompress(base64.b64decode(text), _MOST)
        if unpacking.unconsumed_tail:
            raise InvalidInput(f"A message of it has more than {_MOST} bytes.")
        return found.decode()
    except (ValueError, zlib.error) as error:
        raise InvalidInput(f"A message of it cannot be unpacked: {error}.") from None
