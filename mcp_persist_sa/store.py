"""The store: one facade over every backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from mcp_persist_sa.checks import check_whole, new_append
from mcp_persist_sa.dsn import default_dsn, parse
from mcp_persist_sa.errors import InvalidInput, StoreClosed, StreamNotFound
from mcp_persist_sa.identity import EventId, check_session_id, escape_stream_id, session_key
from mcp_persist_sa.models import Event, Gap, NewEvent, Page, Purged, StreamInfo
from mcp_persist_sa.opening import Opened, open_dsn, open_engine
from mcp_persist_sa.options import Options, warn_of_unlimited
from mcp_persist_sa.sessions import Sessions
from mcp_persist_sa.state import State
from mcp_persist_sa.streams import StreamWriter, Tail, end_of
from mcp_persist_sa.writer import Writer


def open_store(dsn: str | None = None, **options: Any) -> Store:
    """Give the store of a DSN, which `async with` opens and closes.

    Args:
        dsn: `sqlite:///file.db`, `sqlite://` (in memory), `postgresql://user:password@host/database`. None for the one
            in the environment variable MCP_PERSIST_SA_DSN, or else a file in the working directory.
        **options: See `Options`; those that a DSN can carry may also stand in its query.

    Raises:
        InvalidDSN: The DSN is not understood.
        InvalidOption: An option is unknown or has a value that it cannot have.
    """
    return Store(default_dsn() if dsn is None else dsn, **options)


class Store:
    """The database of an MCP server. It belongs to the event loop in which it was opened."""

    def __init__(self, source: str | AsyncEngine, **options: Any) -> None:
        """Make a store, which is opened by `async with` or `open`.

        Args:
            source: A DSN, or an engine of yours, which the store uses and never disposes of.
            **options: See `Options`.
        """
        given = parse(source).options if isinstance(source, str) else {}
        self._source = source
        self._options = Options.of({**given, **options})
        self._opened: Opened | None = None
        self._one_opening = asyncio.Lock()

    async def open(self) -> Store:
        """Connect, and check the tables (or bring them up to date, where `migrate` allows it).

        Raises:
            StoreUnavailable: The database cannot be reached, or refuses (`AccessDenied`).
            SchemaError: The tables are missing, too old, too new, or not ours.
            MissingExtra: A driver is not installed.
        """
        async with self._one_opening:
            if self._opened is None:
                await self._open()
        return self

    async def _open(self) -> None:
        warn_of_unlimited(self._options)
        opening = open_dsn if isinstance(self._source, str) else open_engine
        self._opened = opened = await opening(self._source, self._options)  # type: ignore[arg-type]
        self._writer = Writer(
            opened.backend,
            opened.notifier.notify,
            max_events=self._options.max_queued_events,
            max_bytes=self._options.max_queued_bytes,
        )
        self._sessions = Sessions(opened.backend, opened.notifier, self._options)

    async def close(self) -> None:
        """Write what is queued, and disconnect. Whoever cancels this only stops to wait for it."""
        if self._opened is None:
            return
        opened, self._opened = self._opened, None
        self._closing = asyncio.ensure_future(self._close(opened))
        await asyncio.shield(self._closing)

    async def _close(self, opened: Opened) -> None:
        try:
            await self._writer.close(self._options.timeout)
        finally:
            await opened.backend.close()

    async def __aenter__(self) -> Store:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def options(self) -> Options:
        """The options in force."""
        return self._options

    @property
    def _now_open(self) -> Opened:
        if self._opened is None:
            raise StoreClosed("The store is not open. Use `async with open_store(dsn) as store`.")
        return self._opened

    def _key(self, session_id: str) -> str:
        return session_key(self._options.namespace, check_session_id(session_id))

    # Sessions and state

    @property
    def sessions(self) -> Sessions:
        """Records of sessions."""
        _ = self._now_open
        return self._sessions

    def state(self, session_id: str) -> State:
        """The state of a session, or of any handle of your own making, which then need not be a recorded session.

        Args:
            session_id: The session or handle.
        """
        return State(self._now_open.backend, self._key(session_id), self._options)

    # Writing events

    async def append(self, session_id: str, stream_id: str, message: str | None, *, final: bool = False) -> str:
        """Store an event in a stream to which anyone may append, and give its id once it is durable.

        Args:
            session_id: The session, which need not be recorded.
            stream_id: The stream's name in the session; it is opened with its first event.
            message: The JSON-RPC message as JSON text, stored exactly as given; None for a priming event.
            final: Whether it ends the stream.

        Raises:
            InvalidInput: It cannot be stored.
            StreamClaimed: The stream has a writer of its own.
            StoreUnavailable: It was not stored within `timeout`; with `OutcomeUnknown`, it may have been.
        """
        return (await self.append_many(session_id, stream_id, [NewEvent(message, final)]))[0]

    async def append_many(self, session_id: str, stream_id: str, events: Sequence[NewEvent]) -> list[str]:
        """Store events together and in order; otherwise as `append`."""
        name = escape_stream_id(stream_id)
        group = new_append(self._key(session_id), name, events, self._options.max_message_bytes)
        _ = self._now_open
        place = await self._writer.write(group, self._options.timeout)
        return [
            str(EventId(place.stream_key, place.first_sequence + index, nonce))
            for index, nonce in enumerate(group.nonces)
        ]

    def claim(self, session_id: str, stream_id: str) -> StreamWriter:
        """Open a stream as its only writer, which numbers the events itself and need not wait for the database.

        Args:
            session_id: The session, which need not be recorded.
            stream_id: The stream's name in the session. Whether it is free is found out when its first event is stored.
        """
        _ = self._now_open
        name = escape_stream_id(stream_id)
        return StreamWriter(self._writer, self._key(session_id), name, self._options.max_message_bytes)

    # Reading events

    def _tail(self, session_id: str) -> Tail:
        opened = self._now_open
        return Tail(opened.backend, opened.notifier, self._key(session_id), self._options)

    async def read(self, session_id: str, *, after: str | None = None, stream_id: str | None = None) -> Page:
        """A page of a stream: what follows an event, or its beginning as far as it is kept.

        Args:
            session_id: The session.
            after: An event id of the session.
            stream_id: Instead of it, the stream: the open one of that name, or else the newest.

        Raises:
            UnknownEvent: The session has no event with this id.
            HistoryLost: Events after it are gone.
            StreamNotFound: The session has no such stream.
            SessionNotFound: The session has expired.
        """
        tail = self._tail(session_id)
        return await tail.read(await self._place(tail, after, stream_id))

    async def _place(self, tail: Tail, after: str | None, stream_id: str | None) -> EventId:
        if (after is None) == (stream_id is None):
            raise InvalidInput("Give either an event id (`after`) or a stream (`stream_id`).")
        if after is not None:
            return EventId.parse(after)
        place = await tail.beginning(escape_stream_id(stream_id or ""))
        if place is None:
            raise StreamNotFound("The session has no such stream.")
        return place

    async def read_before(self, session_id: str, event_id: str, *, limit: int = 100) -> Page:
        """The newest events before one, in their order. Takes and raises what `read` does."""
        return await self._read_back(session_id, EventId.parse(event_id), limit)

    async def recent(self, session_id: str, stream_id: str, *, limit: int = 100) -> Page:
        """The newest events of a stream, in their order. Takes and raises what `read` does."""
        place = await self._place(self._tail(session_id), None, stream_id)
        return await self._read_back(session_id, end_of(place.stream_key), limit)

    async def _read_back(self, session_id: str, before: EventId, limit: int) -> Page:
        check_whole("limit", limit, 1)
        most = self._options.page_bytes
        return await self._now_open.backend.read_before(self._key(session_id), before, limit=limit, max_bytes=most)

    async def tail(
        self, session_id: str, *, after: str | None = None, stream_id: str | None = None, from_now: bool = False
    ) -> AsyncGenerator[Event | Gap, None]:
        """Follow a stream: what is stored, then what comes, until its final event or the end of its session.

        Args:
            session_id: The session.
            after: An event id of the session, after which to begin.
            stream_id: Instead of it, the stream, which may be opened later.
            from_now: With a stream: leave out what it holds already.

        Yields:
            Events in order, and a `Gap` where numbers are missing for good.

        Raises:
            UnknownEvent: The session has no event with this id (any more).
            HistoryLost: Events after it, or after the last one yielded, are gone.
            SessionNotFound: The session has expired.
        """
        tail = self._tail(session_id)
        name = escape_stream_id(stream_id or "")
        if (after is None) == (stream_id is None):
            raise InvalidInput("Give either an event id (`after`) or a stream (`stream_id`).")
        if after is not None and from_now:
            raise InvalidInput("`from_now` goes with a stream (`stream_id`), not with an event id.")
        place, skip = (EventId.parse(after), "") if after is not None else (None, "")
        if from_now:
            place, skip = await tail.end(name)
        async with aclosing(tail.items(name, place, skip=skip)) as items:
            async for item in items:
                yield item

    async def stream(self, session_id: str, stream_id: str) -> StreamInfo:
        """What is known of a stream: the open one of that name, or else the newest.

        Raises:
            StreamNotFound: The session has no such stream.
        """
        place = await self._place(self._tail(session_id), None, stream_id)
        found = await self._now_open.backend.stream(self._key(session_id), place.stream_key)
        if found is None:
            raise StreamNotFound("The session has no such stream.")
        return found

    async def streams(self, session_id: str) -> AsyncGenerator[StreamInfo, None]:
        """All streams of a session, in no particular order."""
        backend, after = self._now_open.backend, ""
        while found := await backend.streams(self._key(session_id), after=after, limit=100):
            for info in found:
                yield info
            after = found[-1].stream_key

    # Removing

    async def delete_before(self, session_id: str, event_id: str) -> int:
        """Remove the events of a stream that come before one, and say how many there were.

        Raises:
            UnknownEvent: The session has no event with this id.
            HistoryLost: It, or what follows it, is gone already.
            SessionNotFound: The session has expired.
        """
        place = EventId.parse(event_id)
        await self._tail(session_id).read(place)
        return await self._now_open.backend.delete_before(self._key(session_id), place.stream_key, place.sequence)

    async def delete_events(self, session_id: str) -> Purged:
        """Remove all streams and events of a session, which stays."""
        return await self._now_open.backend.delete_events(self._key(session_id))

    async def purge(self) -> Purged:
        """Remove what has expired or is over a limit, in chunks that never hold a writer for long."""
        return await self._now_open.backend.purge()
