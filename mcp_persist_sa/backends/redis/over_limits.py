"""What of a session is over a limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mcp_persist_sa.limits import Limits


class _Sized(NamedTuple):
    age: int
    stream_key: str
    sequence: int
    size: int


class _Room:
    """Counts the newest events until a limit is passed; one is kept however large it is."""

    def __init__(self, events: int | None, size: int | None) -> None:
        self._limits = (events, size)
        self._events = self._size = 0

    def is_over(self, event: _Sized) -> bool:
        self._events += 1
        self._size += event.size
        events, size = self._limits
        too_many = events is not None and self._events > events
        return too_many or (size is not None and self._events > 1 and self._size > size)


def over_limits(found: Sequence[Any], limits: Limits) -> dict[str, int]:
    """By stream key, the number through which events are over a limit.

    Args:
        found: Of each stream its key, and of each of its events the number, the time and the bytes.
        limits: Of the store.
    """
    through: dict[str, int] = {}
    session = _Room(limits.events_per_session, limits.bytes_per_session)
    streams: dict[str, _Room] = {}
    for event in sorted(_sized(found), key=lambda event: (-event.age, event.stream_key, -event.sequence)):
        key = event.stream_key
        stream = streams.setdefault(key, _Room(limits.events_per_stream, limits.bytes_per_stream))
        # Both count each event.
        if session.is_over(event) | stream.is_over(event):
            through[key] = max(through.get(key, 0), event.sequence)
    return through


def _sized(found: Sequence[Any]) -> list[_Sized]:
    events: list[_Sized] = []
    for key, rows in zip(found[::2], found[1::2], strict=True):
        age = 0
        for row in rows:
            sequence, at, size = map(int, row.split())
            # Clocks go back at times; the order of a stream does not.
            age = max(age, at) if events and events[-1].stream_key == key.decode() else at
            events.append(_Sized(age, key.decode(), sequence, size))
    return events
