"""A session as its page draws it: its streams, and of those that were used last the newest events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timezone
from typing import Any

from mcp_persist_sa.dashboard.messages import outside
from mcp_persist_sa.dashboard.pace import Pace
from mcp_persist_sa.dashboard.pages import JSON, News, details, key_of, milliseconds, refusal
from mcp_persist_sa.errors import HistoryLost, PersistError, SessionNotFound, UnknownEvent
from mcp_persist_sa.identity import unescape_stream_id
from mcp_persist_sa.models import Event, Gap
from mcp_persist_sa.protocols import Backend
from mcp_persist_sa.records import StreamRecord
from mcp_persist_sa.store import Store
from mcp_persist_sa.streams import end_of

DRAWN = 40
"""Streams that are drawn with their events."""

NAMED = 200
"""Streams that are listed."""

_POINTS = 100
_POINT_BYTES = 256 * 1024
_LOOKED_AT = 10_000
_AT_ONCE = 500
_PAUSE = 0.25
_SHARE = 10
_EPOCH = datetime.fromtimestamp(0, timezone.utc)
_BEHIND_THE_STATE = StreamRecord("", "", False, False, 0, 0, None, None, None, _EPOCH, _EPOCH)

Point = list[Any]
"""Of an event: number, moment, kind, name, size, whether it is the last; of a gap: its first and last number."""


class Timeline:
    """One session, looked at again and again; a stream that has not changed since is not read again."""

    def __init__(self, store: Store, session_id: str, *, payloads: bool) -> None:
        """Make one.

        Args:
            store: The store.
            session_id: The session, which need not be recorded.
            payloads: Whether it is told what was said when it was opened.

        Raises:
            InvalidInput: It cannot be a session id.
        """
        self._store = store
        self._session_id = session_id
        self._key = key_of(store, session_id)
        self._payloads = payloads
        self._drawn: dict[str, tuple[StreamRecord, list[Point]]] = {}

    async def follow(self) -> AsyncGenerator[News, None]:
        """Yield the session as it is, and then as it has become.

        However much happens there, it is looked at a few times a second at most, and for a tenth of the time.
        """
        pace, known = Pace(least=_PAUSE, share=_SHARE), None
        async with aclosing(self._store.changes(self._session_id)) as changes:
            async for _ in changes:
                news = await self._news(pace)
                if news != known:
                    yield news
                known = news
                await pace.rest()

    async def _news(self, pace: Pace) -> News:
        try:
            with pace.look():
                return News("session", await self.look())
        except SessionNotFound as error:
            return News("gone", refusal(error))
        except PersistError as error:
            return News("trouble", refusal(error))

    async def look(self) -> JSON:
        """The session as it is now.

        Raises:
            SessionNotFound: It has expired, or there is nothing of it.
            PersistError: It cannot be read.
        """
        session = await details(self._store, self._session_id, payloads=self._payloads)
        streams, more = await _streams(self._store.backend, self._key)
        if session is None and not streams:
            raise SessionNotFound("There is no such session: it was never opened, has expired, or was deleted.")
        streams.sort(key=lambda record: (record.updated_at, record.stream_key), reverse=True)
        drawn = {record.stream_key: await self._points(record) for record in streams[:DRAWN]}
        self._drawn = {record.stream_key: (record, drawn[record.stream_key]) for record in streams[:DRAWN]}
        return {
            "session": session,
            "streams": [{**_stream(record), "points": drawn.get(record.stream_key)} for record in streams[:NAMED]],
            "total": {"streams": len(streams), "events": sum(map(_held, streams)), "more": more},
        }

    async def _points(self, record: StreamRecord) -> list[Point]:
        known = self._drawn.get(record.stream_key)
        if known is not None and known[0] == record:
            return known[1]
        try:
            found = await self._store.backend.read_before(
                self._key, end_of(record.stream_key), limit=_POINTS, max_bytes=_POINT_BYTES
            )
        except (HistoryLost, UnknownEvent):
            return []
        return [_point(item) for item in found.items()]


async def _streams(backend: Backend, session_key: str) -> tuple[list[StreamRecord], bool]:
    """The streams of a session, and whether it has more than are looked at."""
    found: list[StreamRecord] = []
    while len(found) < _LOOKED_AT:
        after = found[-1] if found else _BEHIND_THE_STATE
        page = await backend.read_outline(session_key, after=after, limit=_AT_ONCE, max_bytes=1)
        found += [record for record in page.records if isinstance(record, StreamRecord)]
        if not (page.more and page.records):
            return found, False
    return found, True


def _held(record: StreamRecord) -> int:
    return record.last_sequence - record.purged_through


def _stream(record: StreamRecord) -> JSON:
    return {
        "key": record.stream_key,
        "name": unescape_stream_id(record.stream_id),
        "finished": record.finished,
        "claimed": record.claimed,
        "events": _held(record),
        "removed": record.purged_through,
        "opened": milliseconds(record.created_at),
        "active": milliseconds(record.updated_at),
    }


def _point(item: Event | Gap) -> Point:
    if isinstance(item, Gap):
        return [item.first, item.last]
    kind, name, size = outside(item.message)
    return [item.sequence, milliseconds(item.created_at), kind, name, size, item.final]
