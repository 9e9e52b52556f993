"""How records are read exactly as they are kept, and written: for copies and exports."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from mcp_persist_sa.backends.redis.keys import micros, milliseconds
from mcp_persist_sa.backends.redis.records import (
    event_record,
    event_text,
    optional,
    session_of,
    state_record,
    stream_fields,
    stream_record,
    whole,
)
from mcp_persist_sa.backends.redis.retention import Retention
from mcp_persist_sa.backends.redis.scripts import OUTLINE, PARCEL
from mcp_persist_sa.backends.redis.server import Call, Value
from mcp_persist_sa.errors import RecordConflict
from mcp_persist_sa.identity import FOREIGN, EventId
from mcp_persist_sa.models import Session
from mcp_persist_sa.records import EventRecord, Outline, OutlinePage, Parcel, StateRecord, StreamRecord
from mcp_persist_sa.replacing import News, Present, Sought


class Outlines(Retention):
    """Whoever copies."""

    async def session_keys(self) -> AsyncIterator[list[str]]:
        """See `RecordBackend`."""
        async for keys in self._session_keys():
            if keys:
                yield keys

    async def read_outline(self, session_key: str, *, after: Outline | None, limit: int, max_bytes: int) -> OutlinePage:
        """See `RecordBackend`."""
        record, sizes, streams = await self._read(OUTLINE, session_key, "names")
        session = session_of(record) if after is None else None
        found: list[Outline] = [] if session is None else [session]
        names = _names_behind(after, sizes)
        chosen = _within(names[: limit - len(found)], max_bytes)
        keys: list[str] = []
        if len(chosen) == len(names):
            last = after.stream_key if isinstance(after, StreamRecord) else ""
            keys = sorted(key for key in map(bytes.decode, streams) if key > last)
        room = limit - len(found) - len(chosen)
        values, rows = await self._read(OUTLINE, session_key, "records", len(chosen), *chosen, *keys[:room])
        found += map(state_record, values)
        found += map(stream_record, rows)
        return OutlinePage(found, len(chosen) < len(names) or len(keys) > room)

    async def read_events(
        self, session_key: str, stream_key: str, *, after: int, limit: int, max_bytes: int
    ) -> list[EventRecord]:
        """See `RecordBackend`."""
        events = await self._read(OUTLINE, session_key, "events", stream_key, after, limit, max_bytes)
        return [event_record(stream_key, event) for event in events]

    async def find_foreign(self, session_key: str, nonce: str) -> EventId | None:
        """See `EventBackend`."""
        found = await self._read(OUTLINE, session_key, "find", FOREIGN, nonce)
        return EventId(found[0].decode(), int(found[1]), nonce) if found else None

    # Writing

    async def write_parcels(self, parcels: Sequence[Parcel]) -> list[RecordConflict | None]:
        """See `RecordBackend`."""
        outcomes: dict[int, RecordConflict] = {}
        waiting = [*range(len(parcels))]
        while waiting:
            waiting = await self._write_some(parcels, waiting, outcomes)
        for place, parcel in enumerate(parcels):
            session = next((record for record in parcel.records if isinstance(record, Session)), None)
            if session is not None and place not in outcomes:
                await self._enter(parcel.session_key, session)
        return [outcomes.get(place) for place in range(len(parcels))]

    async def _write_some(
        self, parcels: Sequence[Parcel], places: Sequence[int], outcomes: dict[int, RecordConflict]
    ) -> list[int]:
        """Try once, and give the places of those parcels in whose place something has changed meanwhile."""
        sought = [Sought(parcels[place]) for place in places]
        keys = [parcels[place].session_key for place in places]
        looks = [self._parcel(key, "", each, None) for key, each in zip(keys, sought, strict=True)]
        calls: dict[int, Call] = {}
        seen = await self._server.read(*looks)
        for place, key, each, (digest, there) in zip(places, keys, sought, seen, strict=True):
            try:
                news = News(each, _present(there))
            except RecordConflict as conflict:
                outcomes[place] = conflict
                continue
            if news:
                calls[place] = self._parcel(key, digest.decode(), each, news)
        answers = await self._server.write(*calls.values()) if calls else []
        return [place for place, is_written in zip(calls, answers, strict=True) if not is_written]

    def _parcel(self, session_key: str, digest: str, sought: Sought, news: News | None) -> Call:
        lists: list[Sequence[Value]] = [
            [*sought.state],
            [*sought.streams],
            sought.names,
            [part for each in sought.ranges for part in each],
        ]
        if news is not None:
            lists += _written(news)
        times = (milliseconds(self._options.span("event_ttl")), self._ttl("state_ttl"))
        return self._call(PARCEL, session_key, *times, digest, *(part for each in lists for part in (len(each), *each)))


def _names_behind(after: Outline | None, sizes: Sequence[Any]) -> list[tuple[str, int]]:
    """The names of values behind a record, in their order, and their bytes."""
    if isinstance(after, StreamRecord):
        return []
    last = after.key if isinstance(after, StateRecord) else ""
    named = ((name.decode(), size) for name, size in zip(sizes[::2], sizes[1::2], strict=True))
    return sorted(entry for entry in named if entry[0] > last)


def _within(names: Sequence[tuple[str, int]], max_bytes: int) -> list[str]:
    """Those that fit into so many bytes; the first one at least."""
    chosen: list[str] = []
    for name, size in names:
        max_bytes -= size
        if max_bytes < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def _present(there: Sequence[Any]) -> Present:
    record, values, streams, names, events = there
    state = map(state_record, values)
    known = map(stream_record, streams)
    stored = [
        event_record(key.decode(), event)
        for key, found in zip(events[::2], events[1::2], strict=True)
        for event in found
    ]
    return Present(
        session=session_of(record),
        state={each.key: each for each in state},
        streams={each.stream_key: each for each in known},
        open_streams=[(name.decode(), key.decode()) for name, key in zip(names[::2], names[1::2], strict=True)],
        events={(each.stream_key, each.sequence): each for each in stored},
    )


def _written(news: News) -> list[Sequence[Value]]:
    """What is to be written, as the script takes it."""
    fields = {} if news.session is None else whole(news.session)
    values = [
        part for each in news.state for part in (each.key, each.version, micros(each.updated_at), optional(each.value))
    ]
    return [
        [part for name, text in fields.items() for part in (name, optional(text))],
        values,
        [part for each in news.streams for part in stream_fields(each)],
        [part for each in news.events for part in (each.stream_key, event_text(each))],
    ]
