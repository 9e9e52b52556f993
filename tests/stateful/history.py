"""The model of a stream: every event that was ever stored in it, and what of them can still be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from mcp_persist_sa import Event, Gap, HistoryLost, NewEvent, PersistError


class Refusal(Exception):
    """The store is expected to refuse, with an error of one of these kinds."""

    def __init__(self, *kinds: type[PersistError]) -> None:
        super().__init__(", ".join(kind.__name__ for kind in kinds))
        self.kinds = frozenset(kinds)


class Span(NamedTuple):
    """When something happened, as nearly as the model knows."""

    first: datetime
    last: datetime

    def has(self, moment: datetime) -> bool:
        return self.first <= moment <= self.last


def canonical(stream_id: str) -> str:
    """A stream id as JSON text carries it, where two halves of a surrogate pair are one character."""
    return json.loads(json.dumps(stream_id))


def parts(event_id: str) -> tuple[str, int]:
    """The stream key and the number that stand in an event id."""
    key, sequence, nonce = event_id.split(".")
    assert (len(key), len(nonce)) == (16, 8), event_id
    return key, int(sequence)


@dataclass(frozen=True)
class Known:
    """An event that was acknowledged."""

    event_id: str
    sequence: int
    message: str | None
    final: bool
    span: Span
    size: int

    def is_same(self, event: Event) -> bool:
        return (
            event[:4] == (self.event_id, self.sequence, self.message, self.final)
            and type(event.final) is bool
            and self.span.has(event.created_at)
        )


def known(event_id: str, event: NewEvent, span: Span) -> Known:
    size = len((event.message or "").encode())
    return Known(event_id, parts(event_id)[1], event.message, event.final, span, size)


@dataclass(eq=False)
class Stream:
    """One stream, from its first event to its final one.

    Attributes:
        stream_id: Its name.
        key: With which its event ids begin.
        claimed: Whether one writer numbers its events.
        created: When.
        events: All that were ever stored, by number.
        removed_through: Events up to this number are not in the database any more.
        gone: Whether the stream itself is not there any more.
    """

    stream_id: str
    key: str
    claimed: bool
    created: Span
    events: dict[int, Known] = field(default_factory=dict[int, Known])
    removed_through: int = 0
    gone: bool = False

    @property
    def last(self) -> Known:
        return self.events[max(self.events)]

    @property
    def finished(self) -> bool:
        return self.last.final

    @property
    def kept(self) -> list[Known]:
        """Events that the database still has to have, or may still have."""
        return [event for sequence, event in sorted(self.events.items()) if sequence > self.removed_through]

    def visible(self, oldest: datetime | None) -> list[Known]:
        """Events that can be read."""
        return [event for event in self.kept if oldest is None or event.span.last > oldest]

    def store(self, events: Sequence[Known]) -> None:
        for event in events:
            assert parts(event.event_id)[0] == self.key
            assert event.sequence not in self.events
            self.events[event.sequence] = event

    def beginning(self, oldest: datetime | None) -> int:
        """The number of the newest event that is lost; what can be read begins after it."""
        seen = {event.sequence for event in self.visible(oldest)}
        return max((sequence for sequence in self.events if sequence not in seen), default=0)

    def items(self, after: int, oldest: datetime | None) -> list[Known | Gap]:
        """What follows a number."""
        if self.beginning(oldest) > after:
            raise Refusal(HistoryLost)
        return with_gaps(after, [event for event in self.visible(oldest) if event.sequence > after])

    def remove_through(self, sequence: int) -> list[Known]:
        """Remove the beginning, and give what was removed."""
        removed = [event for event in self.kept if event.sequence <= sequence]
        self.removed_through = max(self.removed_through, sequence)
        return removed


def with_gaps(after: int, events: Sequence[Known]) -> list[Known | Gap]:
    """Events, and what is missing before and between them."""
    items: list[Known | Gap] = []
    for event in events:
        if event.sequence != after + 1:
            items.append(Gap(after + 1, event.sequence - 1))
        items.append(event)
        after = event.sequence
    return items
