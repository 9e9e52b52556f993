"""The records that the store takes and gives. All are immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple, cast

__all__ = [
    "Event",
    "Gap",
    "Health",
    "JSONValue",
    "NewEvent",
    "NotifierHealth",
    "NotifierMode",
    "Page",
    "PoolHealth",
    "Purged",
    "Session",
    "SessionPage",
    "SessionStatus",
    "StateEntry",
    "StreamInfo",
    "value_of",
]

JSONValue = Any
"""A value that JSON can hold: None, bool, int, float, str, list, dict with str keys."""


def value_of(message: JSONValue, name: str) -> JSONValue:
    """A value of a JSON object; None if it is none, or has no such name."""
    return cast("dict[str, Any]", message).get(name) if isinstance(message, dict) else None


SessionStatus = Literal["open", "closed"]

NotifierMode = Literal["local", "listening", "polling", "reconnecting"]


class NewEvent(NamedTuple):
    """An event to append.

    Attributes:
        message: The JSON-RPC message as JSON text, stored exactly as given; None for a priming event.
        final: Whether it ends its stream. The next append under that stream id begins a new stream.
    """

    message: str | None
    final: bool = False


class Event(NamedTuple):
    """A stored event.

    Attributes:
        event_id: What a client sends as `Last-Event-ID` to receive what follows.
        sequence: Its place in the stream, counted from 1 without holes.
        message: The JSON-RPC message as JSON text, or None for a priming event.
        final: Whether it ended its stream.
        created_at: When it was stored, in UTC, by the clock of the database.
    """

    event_id: str
    sequence: int
    message: str | None
    final: bool
    created_at: datetime


class Gap(NamedTuple):
    """Events that were numbered but never stored (their node died, or the store was down for too long).

    Attributes:
        first: The first missing sequence number.
        last: The last missing sequence number.
    """

    first: int
    last: int


class Page(NamedTuple):
    """A stretch of one stream.

    Attributes:
        items: Events in order, and a `Gap` wherever numbers are missing.
        event_id: The place after the last item; give it to read on. None where the page is empty.
        finished: Whether the stream ended, and this page reaches its end.
        closed: Whether the session was closed.
        more: Whether the page stopped at its size; otherwise nothing more was stored at the time of reading.
        abandoned: Whether the node that should have ended the stream is gone.
        stream_id: The name of the stream.
    """

    items: tuple[Event | Gap, ...]
    event_id: str | None
    finished: bool
    closed: bool
    more: bool
    abandoned: bool = False
    stream_id: str = ""

    @property
    def events(self) -> tuple[Event, ...]:
        """The events alone."""
        return tuple(item for item in self.items if isinstance(item, Event))


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What is known of a stream.

    Attributes:
        stream_id: The name that its writer gave it.
        stream_key: The random key with which its event ids begin.
        count: Events that can be read.
        size: Their messages together, in bytes of UTF-8.
        first_event_id: The oldest that can be read, or None.
        last_event_id: The newest that can be read, or None.
        last_sequence: The highest number stored so far, purged events included.
        created_at: When it was opened.
        last_activity_at: When its last event was stored.
        finished: Whether a final event ended it.
        claimed: Whether one writer owns it and numbers its events itself.
    """

    stream_id: str
    stream_key: str
    count: int
    size: int
    first_event_id: str | None
    last_event_id: str | None
    last_sequence: int
    created_at: datetime
    last_activity_at: datetime
    finished: bool
    claimed: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A recorded session.

    Attributes:
        session_id: The `Mcp-Session-Id`.
        owner: The principal that opened it, or None.
        tenant: The customer or group that it is accounted to, or None.
        protocol_version: The negotiated protocol version, or None.
        client_info: The client's `clientInfo`, or None.
        handshake: What has to be replayed to serve the session on another node, or None.
        metadata: Free JSON of the application.
        created_at: When it was opened.
        last_seen_at: When it was last used, to within the interval at which uses are written down.
        expires_at: When it ends unless it is used, or None for never.
        closed_at: When it was closed, or None.
    """

    session_id: str
    owner: str | None
    tenant: str | None
    protocol_version: str | None
    client_info: JSONValue
    handshake: JSONValue
    metadata: Mapping[str, JSONValue]
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime | None
    closed_at: datetime | None

    @property
    def status(self) -> SessionStatus:
        """Whether it is open."""
        return "open" if self.closed_at is None else "closed"

    @property
    def client(self) -> str | None:
        """Name and version of the client, as it gives them itself; None where it does not."""
        info: Any = self.client_info
        if not isinstance(info, Mapping):
            return None
        given = cast("Mapping[str, Any]", info)
        return f"{given.get('name')} {given.get('version', '')}".strip()


class SessionPage(NamedTuple):
    """A page of a listing.

    Attributes:
        sessions: In the order in which they were opened.
        next: Give it as `after` for the next page; None at the end.
    """

    sessions: tuple[Session, ...]
    next: str | None


class StateEntry(NamedTuple):
    """A value of a session's state.

    Attributes:
        value: The JSON value.
        version: 1 when the key was set for the first time, and one more with each write.
    """

    value: JSONValue
    version: int


class Purged(NamedTuple):
    """What a purge removed, by kind."""

    sessions: int = 0
    streams: int = 0
    events: int = 0
    state: int = 0

    def plus(self, other: Purged) -> Purged:
        """Both together."""
        return Purged(*(mine + others for mine, others in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class NotifierHealth:
    """How news of events reaches whoever waits for them.

    Attributes:
        mode: `local`: no other process can write. `listening`: other processes are heard at once.
            `polling`: they are not, and who waits looks again and again. `reconnecting`: as that, until the connection
            on which they are heard is there again.
        since: When that began, in UTC.
        waiters: How many wait.
        reconnects: How many times the connection was lost and made anew.
        lag: Seconds that the last probe took to arrive; None where there was none.
    """

    mode: NotifierMode
    since: datetime
    waiters: int
    reconnects: int
    lag: float | None = None


class PoolHealth(NamedTuple):
    """The connections of a store, beside the one that hears others.

    Attributes:
        size: How many there may be.
        in_use: How many work at the moment.
    """

    size: int
    in_use: int


@dataclass(frozen=True, slots=True)
class Health:
    """How a store is.

    Attributes:
        reachable: Whether the database answered.
        latency: Seconds that one small read took, or until it was given up.
        revision: Of the tables; None where it is not known.
        error: Why the database is not reachable.
        notifier: How news of events reaches this process.
        pool: How busy the connections are; None where it is not known, as with an engine of the caller's own pool.
    """

    reachable: bool
    latency: float
    revision: str | None
    error: str | None
    notifier: NotifierHealth
    pool: PoolHealth | None = None
