"""Importing from mcp-persist. Its event ids are numbers, with which a client may go on here."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import Any

from mcp_persist_sa.checks import check_whole
from mcp_persist_sa.errors import InvalidInput, PersistError
from mcp_persist_sa.identity import (
    FOREIGN,
    check_session_id,
    escape_stream_id,
    new_foreign_stream_key,
    nonce_of_number,
    session_key,
)
from mcp_persist_sa.integrations.calls import NODE_GONE, error_text
from mcp_persist_sa.integrations.sdk import GET_STREAM, owner_name
from mcp_persist_sa.models import Session
from mcp_persist_sa.operations.mcp_persist_tables import (
    SEVERAL_TENANTS,
    OldEvent,
    OldSession,
    OldStream,
    Tables,
    message_of,
    opened_tables,
)
from mcp_persist_sa.operations.opening import check_file, opened
from mcp_persist_sa.operations.progress import Moved, OnProgress
from mcp_persist_sa.operations.shipping import Shipping, stops_all
from mcp_persist_sa.operations.walking import Outlines, Size
from mcp_persist_sa.records import EventRecord, Parcel, StreamRecord
from mcp_persist_sa.store import Store

_NODE = "mcp-persist"
"""The node that wrote the streams of calls: one that is dead, so that a call without an answer is given one."""

_SHORTEST_ID = 16
_CLOSED_TTL = timedelta(minutes=30)


async def import_mcp_persist(
    source: str,
    target: Store | str,
    *,
    events_table: str = "mcp_events",
    sessions_table: str = "mcp_sessions",
    batch_size: int = 1000,
    on_progress: OnProgress | None = None,
) -> Moved:
    """Write the sessions and events of an mcp-persist database to a store. It can be done again.

    A client that comes with the event id that it had there goes on behind that event. Sessions live for the time to
    live of the store from now on. Streams of no session (of mcp-persist without session scopes) are left out, and said.

    Args:
        source: The DSN of a SQLite file or of Postgres; `?schema=` for its schema. Nothing is changed there.
        target: A store or its DSN.
        events_table: The name of its table of events.
        sessions_table: The name of its table of sessions, if it has one.
        batch_size: Records that are held and written at a time.
        on_progress: Called after each step.

    Raises:
        SchemaMissing: There is no such table.
        StoreUnavailable: One of the databases cannot be reached; what was written stays.
    """
    check_whole("batch_size", batch_size, 1)
    check_file(source)
    async with opened_tables(source, events_table, sessions_table) as tables, opened(target) as store:
        importing = _Importing(tables, store, Size(batch_size), on_progress)
        await importing.run()
        return importing.moved


class _Importing:
    def __init__(self, tables: Tables, store: Store, size: Size, on_progress: OnProgress | None) -> None:
        self.moved = Moved(stage="import")
        self._tables = tables
        self._backend = store.backend
        self._options = store.options
        self._size = size
        self._shipping = Shipping(store.backend, size, self.moved, on_progress)
        clock = self._options.clock
        self._now = datetime.now(timezone.utc) if clock is None else clock()
        self._session_id = ""
        self._tenants: set[str] = set()
        self._stream_keys: dict[str, str] = {}

    async def run(self) -> None:
        async with aclosing(self._tables.sessions()) as pages:
            async for page in pages:
                for row in page:
                    self.moved.seen += 1
                    await self._guarded(row.session_id, self._session(row))
        async with aclosing(self._tables.streams()) as pages:
            async for page in pages:
                for stream in page:
                    await self._guarded(stream.name.partition(":")[0], self._stream(stream))
        await self._shipping.flush()
        self.moved.stage = "done"
        self._shipping.report()

    async def _guarded(self, session_id: str, parcels: AsyncGenerator[Parcel, None]) -> None:
        async with aclosing(parcels):
            try:
                async for parcel in parcels:
                    await self._shipping.add(parcel, session_id)
            except (PersistError, ValueError, RecursionError) as error:
                if stops_all(error):
                    raise
                self.moved.fail(session_id, error)

    def _key(self, session_id: str) -> str:
        return session_key(self._options.namespace, check_session_id(session_id))

    async def _session(self, row: Any) -> AsyncGenerator[Parcel, None]:
        old = OldSession.of(row)
        params = old.handshake
        ttl = self._options.span("session_ttl")
        ends = (ttl or _CLOSED_TTL) if old.terminated else ttl
        session = Session(
            session_id=old.session_id,
            owner=None if old.owner is None else owner_name(_principal(old.owner)),
            tenant=old.tenant,
            protocol_version=None if params is None else str(params.get("protocolVersion", "")),
            client_info=None if params is None else params.get("clientInfo"),
            handshake=None if params is None else {"initialize": params},
            metadata={},
            created_at=old.created_at,
            last_seen_at=old.last_seen_at,
            expires_at=None if ends is None else self._now + ends,
            closed_at=old.last_seen_at if old.terminated else None,
        )
        yield Parcel(self._key(old.session_id), (session,))

    async def _stream(self, old: OldStream) -> AsyncGenerator[Parcel, None]:
        session_id, colon, stream_id = old.name.partition(":")
        if not colon or len(session_id) < _SHORTEST_ID:
            raise InvalidInput("This stream belongs to no session: mcp-persist was used without session scopes.")
        key = self._key(session_id)
        if session_id != self._session_id:
            await self._enter(session_id, key)
        if len(self._tenants | old.tenants) > 1:
            raise InvalidInput(SEVERAL_TENANTS)
        self._tenants |= old.tenants
        escaped = escape_stream_id(stream_id)
        stream_key = self._stream_keys.get(escaped) or new_foreign_stream_key()
        writing = _Stream(stream_key, stream_id)
        async with aclosing(self._tables.events(old.name, self._size.records)) as pages:
            async for page in pages:
                if records := writing.records(page):
                    yield Parcel(key, records)
        yield Parcel(key, writing.end())

    async def _enter(self, session_id: str, key: str) -> None:
        """Begin with the streams of a session, and find those that it has from an earlier import."""
        self._session_id = session_id
        tenants = await self._tables.tenants_of(session_id)
        self.moved.seen += not tenants
        # Events that name no tenant are whose the session is.
        self._tenants = {*tenants} if len(tenants) > 1 else {*tenants} - {""}
        async with aclosing(Outlines(self._backend, key, self._size).streams()) as streams:
            self._stream_keys = {
                stream.stream_id: stream.stream_key async for stream in streams if stream.stream_key.startswith(FOREIGN)
            }


class _Stream:
    """Makes records of the events of a stream; the last one is held back until it is known that it is."""

    def __init__(self, stream_key: str, stream_id: str) -> None:
        self._stream_key = stream_key
        self._stream_id = stream_id
        self._count = 0
        self._held: OldEvent | None = None
        self._created_at: datetime | None = None

    def records(self, page: list[OldEvent]) -> tuple[StreamRecord | EventRecord, ...]:
        """The records of some events behind that of the stream, as far as these go."""
        self._created_at = self._created_at or page[0].created_at
        due = [*([] if self._held is None else [self._held]), *page[:-1]]
        self._held = page[-1]
        events = [self._event(old, final=False) for old in due]
        return (self._record(due[-1], finished=False), *events) if due else ()

    def end(self) -> tuple[StreamRecord | EventRecord, ...]:
        """The last event, and the stream as a whole."""
        assert self._held is not None
        final = self._stream_id != GET_STREAM and _is_answer(message_of(self._held.payload))
        event = self._event(self._held, final=final)
        return (self._record(self._held, finished=final), event)

    def _event(self, old: OldEvent, *, final: bool) -> EventRecord:
        self._count += 1
        nonce = nonce_of_number(old.number)
        return EventRecord(self._stream_key, self._count, nonce, final, old.created_at, message_of(old.payload))

    def _record(self, newest: OldEvent, *, finished: bool) -> StreamRecord:
        of_call = self._stream_id != GET_STREAM
        return StreamRecord(
            stream_key=self._stream_key,
            stream_id=escape_stream_id(self._stream_id),
            claimed=of_call,
            finished=finished,
            last_sequence=self._count,
            purged_through=0,
            purged_nonce=None,
            node_id=_NODE if of_call else None,
            will=error_text(_request_id(self._stream_id), NODE_GONE) if of_call and not finished else None,
            created_at=self._created_at or newest.created_at,
            updated_at=newest.created_at,
        )


def _principal(owner: dict[str, str | None]) -> list[str | None]:
    return [owner.get(name) for name in ("client_id", "issuer", "subject")]


def _request_id(stream_id: str) -> int | str:
    """mcp-persist does not say whether it was a number; clients of the SDKs use numbers."""
    return int(stream_id) if stream_id.isascii() and stream_id.isdecimal() else stream_id


def _is_answer(message: str | None) -> bool:
    """Whether a message answers a request, which ends the request's stream."""
    value: Any = json.loads(message) if message else None
    return isinstance(value, dict) and "id" in value and ("result" in value or "error" in value)
