"""What a parcel changes: which of its records are news, beside what is in their place already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_persist_sa.models import Session
from mcp_persist_sa.records import (
    EventRecord,
    Parcel,
    StateRecord,
    StreamRecord,
    refuse_removed,
    refuse_second_open,
    replacement,
)


class Range(NamedTuple):
    """Events of a stream, from a number to another one."""

    stream_key: str
    first: int
    last: int


class Sought:
    """The records of a parcel by their kinds, and what has to be looked for before they are written.

    Attributes:
        session: The session's own, or None.
        state: By key.
        streams: By key.
        events: By stream key.
        names: Of its open streams.
        ranges: In which its events are.
    """

    def __init__(self, parcel: Parcel) -> None:
        self.session: Session | None = None
        self.state: dict[str, StateRecord] = {}
        self.streams: dict[str, StreamRecord] = {}
        self.events: dict[str, list[EventRecord]] = {}
        for record in parcel.records:
            if isinstance(record, Session):
                self.session = record
            elif isinstance(record, StateRecord):
                self.state[record.key] = record
            elif isinstance(record, StreamRecord):
                self.streams[record.stream_key] = record
            else:
                self.events.setdefault(record.stream_key, []).append(record)
        self.names = sorted({record.stream_id for record in self.streams.values() if not record.finished})
        self.ranges = [
            Range(key, min(event.sequence for event in events), max(event.sequence for event in events))
            for key, events in self.events.items()
        ]


@dataclass
class Present:
    """What is in the place of the records of a parcel.

    Attributes:
        session: The session's own.
        state: By key.
        streams: By key.
        open_streams: The keys of open streams of the names in question, each with its name.
        events: By stream key and number.
    """

    session: Session | None = None
    state: Mapping[str, StateRecord] = field(default_factory=dict[str, StateRecord])
    streams: Mapping[str, StreamRecord] = field(default_factory=dict[str, StreamRecord])
    open_streams: Sequence[tuple[str, str]] = ()
    events: Mapping[tuple[str, int], EventRecord] = field(default_factory=dict[tuple[str, int], EventRecord])


class News:
    """What of a parcel has to be written.

    Attributes:
        session: The session's own, or None.
        state: Values.
        streams: Those that have ended first: they make room for others of their name.
        cut: The keys of those of which events have to be removed.
        events: In the order in which they were given.
    """

    def __init__(self, sought: Sought, present: Present) -> None:
        """Compare.

        Raises:
            RecordConflict: The parcel contradicts what is there.
        """
        self._present = present
        self.session = None if sought.session is None else replacement(present.session, sought.session)
        self.state = [
            new
            for key, record in sought.state.items()
            if (new := replacement(present.state.get(key), record)) is not None
        ]
        streams = [
            new
            for key, record in sought.streams.items()
            if (new := replacement(present.streams.get(key), record)) is not None
        ]
        self.streams = sorted(streams, key=lambda record: not record.finished)
        self._check_names()
        self.cut = {new.stream_key for new in self.streams if self._has_removed(new)}
        self.events = self._new_events(sought.events)

    def __bool__(self) -> bool:
        return bool(self.session or self.state or self.streams or self.events)

    def _check_names(self) -> None:
        """Refuse a second open stream of a name."""
        news = {new.stream_key for new in self.streams}
        taken = {name for name, key in self._present.open_streams if key not in news}
        for new in self.streams:
            if not new.finished:
                if new.stream_id in taken:
                    raise refuse_second_open(new.stream_id)
                taken.add(new.stream_id)

    def _has_removed(self, new: StreamRecord) -> bool:
        old = self._present.streams.get(new.stream_key)
        return old is not None and old.purged_through < new.purged_through

    def _new_events(self, given: Mapping[str, Sequence[EventRecord]]) -> list[EventRecord]:
        purged = {key: old.purged_through for key, old in self._present.streams.items()}
        purged |= {new.stream_key: new.purged_through for new in self.streams}
        news: list[EventRecord] = []
        for key, events in given.items():
            for event in events:
                if event.sequence <= purged[key]:
                    raise refuse_removed(event)
                if replacement(self._present.events.get((key, event.sequence)), event) is not None:
                    news.append(event)
        return news
