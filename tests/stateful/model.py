"""What the store should hold: plain dictionaries, and what the documentation promises about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mcp_persist_sa import (
    HistoryLost,
    Purged,
    Session,
    SessionExists,
    SessionLimitReached,
    SessionNotFound,
    StreamClaimed,
    StreamNotFound,
    UnknownEvent,
)
from tests.stateful.history import Known, Refusal, Span, Stream, canonical, known, parts
from tests.stateful.values import Values

MARK_OF_DELETION = timedelta(hours=1)
"""For at least so long the version of a value that was deleted is remembered."""

_MANY = 1000


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


class Rules:
    """The options that decide what is kept, as the model needs them."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.session_ttl = _seconds(options.get("session_ttl"))
        self.event_ttl = _seconds(options.get("event_ttl"))
        self.state_ttl = _seconds(options.get("state_ttl"))
        self.max_sessions: int | None = options.get("max_sessions")
        self.page_events: int = options["page_events"]
        self.page_bytes: int = options["page_bytes"]
        self.events_per_stream: int | None = options.get("max_events_per_stream")
        self.bytes_per_stream: int | None = options.get("max_bytes_per_stream")
        self.events_per_session: int | None = options.get("max_events_per_session")
        self.bytes_per_session: int | None = options.get("max_bytes_per_session")

    @property
    def limited(self) -> bool:
        """Whether what is kept depends on how much there is, so that it may be removed at any time."""
        limits = (self.events_per_stream, self.bytes_per_stream, self.events_per_session, self.bytes_per_session)
        return any(limit is not None for limit in limits)


@dataclass(eq=False)
class Holding:
    """All that belongs to one session id, recorded or not.

    Attributes:
        rules: What is kept.
        now: The clock.
        record: The session, until it is removed; it may have expired.
        streams: In the order in which they were opened.
        values: The state.
        limbo: Whether state was written although the session had expired; it may be served or not.
        touched: By node, when it was last told of a use.
    """

    rules: Rules
    now: Callable[[], datetime]
    record: Session | None = None
    streams: list[Stream] = field(default_factory=list[Stream])
    values: Values = field(default_factory=Values)
    limbo: bool = False
    touched: dict[int, datetime] = field(default_factory=dict[int, datetime])

    # The session

    @property
    def over(self) -> bool:
        """Whether there is a session, and it has expired."""
        return self.record is not None and self.record.expires_at is not None and self.record.expires_at <= self.now()

    @property
    def alive(self) -> Session:
        if self.record is None or self.over:
            raise Refusal(SessionNotFound)
        return self.record

    @property
    def open(self) -> Session:
        if self.alive.closed_at is not None:
            raise Refusal(SessionNotFound)
        return self.alive

    @property
    def closed(self) -> bool:
        return self.record is not None and self.record.closed_at is not None

    # Its state

    def settle_state(self) -> None:
        """Let state expire."""
        if self.over:
            self.values.expire(self.now())
        elif self.record is None and self.rules.state_ttl is not None:
            self.values.expire(self.now() - self.rules.state_ttl)

    # Its streams

    @property
    def oldest(self) -> datetime | None:
        """Events of this moment and before have expired."""
        return None if self.rules.event_ttl is None else self.now() - self.rules.event_ttl

    def open_stream(self, stream_id: str) -> Stream | None:
        """The stream of that name that has not ended."""
        name = canonical(stream_id)
        return next((stream for stream in self.streams if stream.stream_id == name and not stream.finished), None)

    def named(self, stream_id: str) -> Stream | None:
        """The open stream of that name, or else the newest."""
        name = canonical(stream_id)
        same = [stream for stream in self.streams if stream.stream_id == name]
        return self.open_stream(stream_id) or (same[-1] if same else None)

    def find(self, stream_id: str) -> Stream:
        """The stream of that name, for whoever wants to read it."""
        stream = self.named(stream_id)
        if self.over:
            raise Refusal(*{SessionNotFound} | ({StreamNotFound} if stream is None else set()))
        if stream is None:
            raise Refusal(StreamNotFound)
        return stream

    def place(self, event_id: str) -> tuple[Stream, int]:
        """Where an event id points to, for whoever wants to read behind it."""
        for stream in self.streams:
            for event in stream.events.values():
                if event.event_id == event_id:
                    if self.over:
                        raise Refusal(SessionNotFound)
                    return stream, event.sequence
        kinds = {UnknownEvent, SessionNotFound} if self.over else {UnknownEvent}
        # The id of an event that a restored database has given to another one looks like a forged one.
        mine = any(event_id.startswith(f"{stream.key}.") for stream in self.streams)
        raise Refusal(*kinds, *({HistoryLost} if mine else set()))

    def shared(self, stream_id: str) -> Stream | None:
        """The stream that an append goes to, or None where it opens one."""
        stream = self.open_stream(stream_id)
        if stream is not None and stream.claimed:
            raise Refusal(StreamClaimed)
        return stream

    def appended(self, stream_id: str, ids: list[str], events: list[Any], span: Span, *, claimed: bool = False) -> None:
        """Note events that were acknowledged together, and check their places."""
        stream = self.open_stream(stream_id)
        key, first = parts(ids[0])
        if stream is None:
            assert key not in {other.key for other in self.streams}
            stream = Stream(canonical(stream_id), key, claimed, span)
            self.streams.append(stream)
        following = max(stream.events, default=0) + 1
        if not claimed:
            assert first == following, f"{ids[0]} is not number {following}"
        assert [parts(event_id) for event_id in ids] == [(stream.key, first + n) for n in range(len(ids))]
        assert not stream.claimed or claimed
        stream.store([known(event_id, event, span) for event_id, event in zip(ids, events, strict=True)])

    def over_limits(self) -> dict[str, int]:
        """By stream key, the number through which events need not be kept."""
        kept = [(event, stream.key, n) for n, stream in enumerate(self.streams) for event in stream.kept]
        kept.sort(key=lambda found: (found[0].span.last, found[2], found[0].sequence), reverse=True)
        rules, through = self.rules, dict[str, int]()
        total = _Total(rules.events_per_session, rules.bytes_per_session)
        totals = {stream.key: _Total(rules.events_per_stream, rules.bytes_per_stream) for stream in self.streams}
        for event, key, _ in kept:
            # Both count each event.
            if total.passes(event) | totals[key].passes(event):
                through[key] = max(through.get(key, 0), event.sequence)
        return through

    @property
    def _surely_kept(self) -> int:
        """How many events are there; which of an expired session were trimmed, nobody has been able to see."""
        trimmed = self.over_limits() if self.over else {}
        return sum(
            event.sequence > trimmed.get(stream.key, 0)
            for stream in self.streams
            for event in stream.visible(self.oldest)
        )

    def wipe(self) -> tuple[Purged, Purged]:
        """Remove everything, and give the least and the most that the store may say it was."""
        self.settle_state()
        values = len(self.values.keys()) + self.values.lapsed
        events = sum(len(stream.kept) for stream in self.streams)
        least = self._surely_kept if self.rules.limited else events
        there = self.record is not None
        low = Purged(int(there and not self.over), len(self.streams), least, 0 if self.limbo else values)
        high = Purged(int(there), len(self.streams), events, _MANY if self.limbo else values)
        self.record, self.values, self.limbo = None, Values(), False
        self.drop_streams()
        return low, high

    def drop_streams(self) -> None:
        for stream in self.streams:
            stream.gone = True
        self.streams = []


class _Total:
    """Counts the newest events until a limit is passed; one is kept however large it is."""

    def __init__(self, events: int | None, size: int | None) -> None:
        self._limits = (events, size)
        self._events = self._size = 0

    def passes(self, event: Known) -> bool:
        self._events += 1
        self._size += event.size
        events, size = self._limits
        too_many = events is not None and self._events > events
        return too_many or (size is not None and self._events > 1 and self._size > size)


class Space:
    """A namespace."""

    def __init__(self, rules: Rules, now: Callable[[], datetime]) -> None:
        self.rules = rules
        self.now = now
        self.holdings: dict[str, Holding] = {}

    def __getitem__(self, session_id: str) -> Holding:
        return self.holdings.setdefault(session_id, Holding(self.rules, self.now))

    def alive(self) -> list[Session]:
        """The sessions that are there, in the order in which they were opened."""
        found = [holding.record for holding in self.holdings.values() if holding.record and not holding.over]
        return sorted(found, key=lambda session: session.created_at)

    def check_new(self, session_id: str | None) -> None:
        """Refuse a session that cannot be recorded."""
        kinds: set[Any] = set()
        if session_id is not None and any(session.session_id == session_id for session in self.alive()):
            kinds.add(SessionExists)
        count = sum(session.closed_at is None for session in self.alive())
        if self.rules.max_sessions is not None and count >= self.rules.max_sessions:
            kinds.add(SessionLimitReached)
        if kinds:
            raise Refusal(*kinds)
