"""Going through all that belongs to a session, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple

from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.records import EventRecord, Outline, OutlinePage, Record, RecordBackend, StreamRecord

MAX_BYTES = 4 * 1024 * 1024


class Size(NamedTuple):
    """How much is held at a time: records, and bytes of messages and values."""

    records: int
    bytes: int = MAX_BYTES


class Outlines:
    """The records of a session but for its events. What fits into one page is read once, however often it is wanted."""

    def __init__(self, backend: RecordBackend, session_key: str, size: Size) -> None:
        self._backend = backend
        self._key = session_key
        self._size = size
        self._first: OutlinePage | None = None

    async def pages(self) -> AsyncGenerator[list[Outline], None]:
        """Page by page; at least one, which may be empty."""
        if self._first is None:
            self._first = await self._read(None)
        page, more = self._first
        yield page
        while more and page:
            page, more = await self._read(page[-1])
            yield page

    async def _read(self, after: Outline | None) -> OutlinePage:
        limits = {"limit": self._size.records, "max_bytes": self._size.bytes}
        try:
            return await self._backend.read_outline(self._key, after=after, **limits)
        except ValueError as error:
            raise PersistError(f"A record of the session cannot be read: {error}.") from error

    async def streams(self) -> AsyncGenerator[StreamRecord, None]:
        """The streams, in the order of their keys."""
        async with aclosing(self.pages()) as pages:
            async for page in pages:
                for record in page:
                    if isinstance(record, StreamRecord):
                        yield record


async def event_pages(
    backend: RecordBackend, session_key: str, stream: StreamRecord, after: int, size: Size
) -> AsyncGenerator[list[EventRecord], None]:
    """The events of a stream behind a number, as far as its record says that there are any."""
    while after < stream.last_sequence:
        page = await backend.read_events(
            session_key, stream.stream_key, after=after, limit=size.records, max_bytes=size.bytes
        )
        if not page:
            return
        yield page
        after = page[-1].sequence


async def record_pages(backend: RecordBackend, session_key: str, size: Size) -> AsyncGenerator[list[Record], None]:
    """All records of a session, those of events behind that of their stream."""
    async with aclosing(Outlines(backend, session_key, size).pages()) as outlines:
        async for outline in outlines:
            page: list[Record] = []
            for record in outline:
                page.append(record)
                if not isinstance(record, StreamRecord):
                    continue
                async with aclosing(event_pages(backend, session_key, record, record.purged_through, size)) as events:
                    async for some in events:
                        yield [*page, *some]
                        page = []
            if page:
                yield page


async def records(backend: RecordBackend, session_key: str, size: Size) -> AsyncGenerator[Record, None]:
    """All records of a session, one by one."""
    async with aclosing(record_pages(backend, session_key, size)) as pages:
        async for page in pages:
            for record in page:
                yield record
