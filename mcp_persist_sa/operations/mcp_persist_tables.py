"""The tables of mcp-persist (1.x and 2.x) in SQLite and Postgres, read in pages."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from mcp_persist_sa.connections import AsyncDatabase, ThreadDatabase
from mcp_persist_sa.database import Database, read
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.engine import foreign_sqlite_engine, postgres_engine
from mcp_persist_sa.errors import InvalidDSN, InvalidInput, SchemaMissing
from mcp_persist_sa.options import Options

_PAGE = 200
_GZIP = 16 + zlib.MAX_WBITS
_MOST = 100 * 1024 * 1024
_EVENTS = ("event_id", "stream_id", "payload", "created_at")
_TENANT = "tenant_id"
_SESSIONS = ("session_id", "tenant_id", "created_at", "last_seen_at", "terminated", "owner", "handshake")

SEVERAL_TENANTS = "Several tenants have a session of this id, of which a store can hold one. Remove the others there."


class OldSession(NamedTuple):
    """A session as mcp-persist kept it."""

    session_id: str
    tenant: str | None
    created_at: datetime
    last_seen_at: datetime
    terminated: bool
    owner: dict[str, str | None] | None
    handshake: dict[str, Any] | None

    @classmethod
    def of(cls, row: Any) -> OldSession:
        """What a row says.

        Raises:
            InvalidInput: It cannot be, or the id has rows of several tenants.
        """
        if row.rows > 1:
            raise InvalidInput(SEVERAL_TENANTS)
        return cls(
            row.session_id,
            row.tenant_id or None,
            _moment(row.created_at),
            _moment(row.last_seen_at),
            bool(row.terminated),
            _json_object(row.owner),
            _json_object(row.handshake),
        )


class OldStream(NamedTuple):
    """A stream as mcp-persist kept it, with the tenants that its events name."""

    name: str
    tenants: frozenset[str]


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
        database: Database = ThreadDatabase(foreign_sqlite_engine(parsed), timeout=options.timeout, readers=1)
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
        self._tenants: tuple[Any, ...] = (sa.null(), sa.null())
        self._sessions: Any = None

    async def look(self) -> None:
        """Find out what there is."""
        events, sessions = self._names
        columns = {name: await read(self._database, partial(self._columns, name)) for name in self._names}
        if not {*_EVENTS} <= columns[events]:
            raise SchemaMissing(
                f"There is no table {events!r} of mcp-persist in this database. Name it, or correct the DSN."
            )
        if _TENANT in columns[events]:
            named = sa.func.nullif(sa.column(_TENANT), "")
            self._tenants = (sa.func.min(named), sa.func.max(named))
        if {"session_id", "terminated"} <= columns[sessions]:
            self._sessions = self._of_sessions(sessions, columns[sessions])

    def _of_sessions(self, name: str, columns: set[str]) -> Any:
        """The rows of sessions, each with how many there are of its id: a tenant may have its own."""
        table = sa.table(name, *map(sa.column, columns), schema=self._schema)
        same = table.alias("same")
        rows = sa.select(sa.func.count()).where(same.c.session_id == table.c.session_id).scalar_subquery()
        found: list[Any] = [table.c[each] if each in columns else sa.null().label(each) for each in _SESSIONS]
        return sa.select(*found, rows.label("rows")).order_by(table.c.session_id)

    def _columns(self, name: str, connection: sa.Connection) -> set[str]:
        inspector = sa.inspect(connection)
        if not inspector.has_table(name, schema=self._schema):
            return set()
        return {column["name"] for column in inspector.get_columns(name, schema=self._schema)}

    async def sessions(self) -> AsyncGenerator[list[Any], None]:
        """The rows of sessions in the order of their ids; of an id that has several, at least one."""
        after = ""
        while self._sessions is not None:
            page = self._sessions.where(sa.column("session_id") > after).limit(_PAGE)
            rows = await read(self._database, partial(_all, page))
            if not rows:
                return
            yield rows
            after = rows[-1].session_id

    async def tenants_of(self, session_id: str) -> list[str]:
        """The tenants that have a session of this id, of which one may be nobody, an empty text."""
        if self._sessions is None:
            return []
        rows = await read(self._database, partial(_all, self._sessions.where(sa.column("session_id") == session_id)))
        return [row.tenant_id or "" for row in rows]

    async def streams(self) -> AsyncGenerator[list[OldStream], None]:
        """The streams, in the order of their names."""
        column = self._events.c.stream_id
        after = ""
        while True:
            page = sa.select(column, *self._tenants).where(column > after).group_by(column).order_by(column)
            rows = await read(self._database, partial(_all, page.limit(_PAGE)))
            if not rows:
                return
            yield [OldStream(name, frozenset(tenants) - {None}) for name, *tenants in rows]
            after = rows[-1][0]

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


def _json_object(value: Any) -> dict[str, Any] | None:
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"A value of it is not JSON: {error}.") from None
    if found is not None and not isinstance(found, dict):
        raise InvalidInput("A value of it is no JSON object.")
    return cast("dict[str, Any] | None", found)


def _moment(seconds: Any) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc)
    except (TypeError, ValueError, OverflowError, OSError):
        raise InvalidInput(f"A time of it is no moment: {seconds}.") from None


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
