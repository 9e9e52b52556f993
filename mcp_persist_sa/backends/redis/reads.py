"""How events are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from mcp_persist_sa.backends.redis.keys import moment
from mcp_persist_sa.backends.redis.nodes import Nodes
from mcp_persist_sa.backends.redis.scripts import READ, STREAMS
from mcp_persist_sa.identity import EventId, new_nonce, unescape_stream_id, unknown_event
from mcp_persist_sa.models import Event, Gap, StreamInfo
from mcp_persist_sa.protocols import Located
from mcp_persist_sa.refusals import history_lost, session_expired
from mcp_persist_sa.stretches import Stretch

_GRACE = 1_000_000
"""Microseconds between taking a stream from its node and ending it."""


class Reads(Nodes):
    """Whoever reads events."""

    async def locate(self, session_key: str, stream_id: str) -> Located:
        """See `EventBackend`."""
        answer = await self._read(STREAMS, session_key, "locate", stream_id)
        if answer[0] == b"expired":
            raise session_expired()
        return Located(answer[1].decode() or None, bool(answer[2]), bool(answer[3]))

    async def read(self, session_key: str, after: EventId, *, limit: int, max_bytes: int) -> Stretch:
        """See `EventBackend`."""
        answer = await self._found(session_key, "forward", after, limit, max_bytes)
        return await self._stretch(after.stream_key, int(answer[2]), answer[7], answer, at_end=True)

    async def read_before(self, session_key: str, before: EventId, *, limit: int, max_bytes: int) -> Stretch:
        """See `EventBackend`."""
        answer = await self._found(session_key, "back", before, limit, max_bytes)
        rows = answer[7][::-1]
        start = _outline(before.stream_key, rows[0])[0].sequence - 1 if rows else 0
        return await self._stretch(before.stream_key, start, rows, answer, at_end=not before.nonce)

    async def _found(self, session_key: str, direction: str, place: EventId, limit: int, max_bytes: int) -> list[Any]:
        answer = await self._read(
            READ,
            session_key,
            *(direction, place.stream_key, place.sequence, place.nonce),
            *(limit, max_bytes, self._ttl("event_ttl")),
        )
        if answer[0] == b"unknown":
            raise unknown_event()
        if answer[0] == b"expired":
            raise session_expired()
        if answer[0] == b"lost":
            raise history_lost()
        return answer

    async def _stretch(
        self, stream_key: str, position: int, rows: list[bytes], answer: list[Any], *, at_end: bool
    ) -> Stretch:
        """What was found behind a number; at the end of the stream, it need not hold the final event to be finished."""
        last, finished = _outline(stream_key, rows[-1]) if rows else (None, at_end and answer[3] == b"1")
        return Stretch(
            count=len(rows),
            last=last,
            items=partial(_items, stream_key, position, rows),
            finished=finished,
            closed=bool(answer[4]),
            more=bool(answer[1]),
            abandoned=bool(answer[5]) and not await self._is_alive(answer[5].decode()),
            stream_id=unescape_stream_id(answer[6].decode()),
        )

    # Streams

    async def streams(self, session_key: str, *, after: str, limit: int) -> list[StreamInfo]:
        """See `EventBackend`."""
        keys = sorted(key.decode() for key in await self._read(STREAMS, session_key, "keys"))
        chosen = [key for key in keys if key > after][:limit]
        infos = [await self.stream(session_key, key) for key in chosen]
        return [info for info in infos if info is not None]

    async def stream(self, session_key: str, stream_key: str) -> StreamInfo | None:
        """See `EventBackend`."""
        count = size = seen = 0
        first = last = ""
        while True:
            found = await self._read(STREAMS, session_key, "info", stream_key, self._ttl("event_ttl"), seen)
            if not found:
                return None
            count, size, seen = count + found[6], size + found[7], found[10]
            first, last = first or found[8].decode(), found[9].decode() or last
            if not seen:
                return _info(stream_key, found, count, size, first, last)

    async def end_abandoned(self, session_key: str, stream_key: str) -> None:
        """See `EventBackend`."""
        dead, nonce = "", new_nonce()
        while node := await self._write(STREAMS, session_key, "end_abandoned", stream_key, dead, nonce, _GRACE):
            dead = node.decode()
            if await self._is_alive(dead):
                return


def _outline(stream_key: str, row: bytes) -> tuple[EventId, bool]:
    """The place of an event, and whether it is final."""
    number, _, content = row.split(b":", 2)
    return EventId(stream_key, int(number), content[:8].decode()), content[8:9] in (b"M", b"P")


def _items(stream_key: str, position: int, rows: Sequence[bytes]) -> Iterator[Event | Gap]:
    at = written_at = None
    for row in rows:
        number, time, content = row.decode().split(":", 2)
        sequence, kind = int(number), content[8]
        if time != written_at:
            # Events of one batch have the same time.
            written_at, at = time, moment(time)
        if sequence != position + 1:
            yield Gap(position + 1, sequence - 1)
        message = content[9:] if kind in "mM" else None
        # As Event(...) would, in half the time.
        yield Event._make((f"{stream_key}.{number}.{content[:8]}", sequence, message, kind in "MP", at))
        position = sequence


def _info(stream_key: str, found: list[Any], count: int, size: int, first: str, last: str) -> StreamInfo:
    return StreamInfo(
        stream_id=unescape_stream_id(found[5].decode()),
        stream_key=stream_key,
        count=count,
        size=size,
        first_event_id=f"{stream_key}.{first}" if first else None,
        last_event_id=f"{stream_key}.{last}" if last else None,
        last_sequence=int(found[2]),
        created_at=moment(found[3]),
        last_activity_at=moment(found[4]),
        finished=found[1] == b"1",
        claimed=found[0] == b"1",
    )
