"""All that belongs to a session, record by record and exactly as it is kept: what copies and exports are made of.

A record that is written to where an older state of it is takes its place, and one that is there already changes
nothing; so whoever was interrupted begins again. One that contradicts what is there is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar, cast

from mcp_persist_sa.errors import RecordConflict
from mcp_persist_sa.models import Session


class StateRecord(NamedTuple):
    """A value of the state of a session or handle.

    Attributes:
        key: Its name.
        value: JSON text, or None for one that was deleted, of which the version is kept for a while.
        version: Of the value.
        updated_at: When it was written.
    """

    key: str
    value: str | None
    version: int
    updated_at: datetime


class StreamRecord(NamedTuple):
    """A stream without its events.

    Attributes:
        stream_key: With which its event ids begin.
        stream_id: Escaped.
        claimed: Whether one writer owns it.
        finished: Whether it has ended.
        last_sequence: The highest number of an event so far, removed ones included.
        purged_through: The highest number of those that were removed.
        purged_nonce: Of the event of that number.
        node_id: The node that writes it, or None.
        will: The message that ends it if that node dies; None once it has ended.
        created_at: When it was opened.
        updated_at: When it last changed.
    """

    stream_key: str
    stream_id: str
    claimed: bool
    finished: bool
    last_sequence: int
    purged_through: int
    purged_nonce: str | None
    node_id: str | None
    will: str | None
    created_at: datetime
    updated_at: datetime


class EventRecord(NamedTuple):
    """An event of a stream."""

    stream_key: str
    sequence: int
    nonce: str
    final: bool
    created_at: datetime
    message: str | None


Outline = Session | StateRecord | StreamRecord
"""What a session consists of, but for its events."""

Record = Outline | EventRecord

T = TypeVar("T", Session, StateRecord, StreamRecord, EventRecord)


class OutlinePage(NamedTuple):
    """Some records of a session, and whether there may be more behind them."""

    records: list[Outline]
    more: bool


class Parcel(NamedTuple):
    """Records of one session; an event comes after the record of its stream, in the same parcel."""

    session_key: str
    records: tuple[Record, ...]


def replacement(old: T | None, new: T) -> T | None:
    """What has to be written where there is an old record; None for nothing.

    Raises:
        RecordConflict: The new one is no later state of the old one.
    """
    if old == new:
        return None
    merged = new if old is None else cast(T, _merged(old, new))
    return None if merged == old else merged


def _merged(old: Record, new: Record) -> Record:
    if isinstance(old, Session) and isinstance(new, Session):
        return _merged_session(old, new)
    if isinstance(old, StateRecord) and isinstance(new, StateRecord):
        if new.version <= old.version:
            raise _conflict(f"its state {old.key!r} was written there")
        return new
    if isinstance(old, StreamRecord) and isinstance(new, StreamRecord):
        return _merged_stream(old, new)
    raise _conflict("there is another event of the same number")


def _merged_session(old: Session, new: Session) -> Session:
    if (old.session_id, old.created_at) != (new.session_id, new.created_at):
        raise _conflict("there is another session of that id")
    if new.last_seen_at < old.last_seen_at or old.closed_at not in (None, new.closed_at):
        raise _conflict("the session was used or closed there")
    return new


def _merged_stream(old: StreamRecord, new: StreamRecord) -> StreamRecord:
    same = (old.stream_id, old.claimed, old.created_at) == (new.stream_id, new.claimed, new.created_at)
    if not same or new.purged_through < old.purged_through:
        raise _conflict(f"its stream {old.stream_id!r} is another one, or events of it were removed there")
    finished = old.finished or new.finished
    return new._replace(
        finished=finished,
        last_sequence=max(old.last_sequence, new.last_sequence),
        node_id=None if old.node_id is None else new.node_id,
        will=None if finished else new.will,
        # Not the greater: events of one batch may have times in another order than their numbers.
        updated_at=new.updated_at if new.last_sequence >= old.last_sequence else old.updated_at,
    )


def refuse_second_open(stream_id: str) -> RecordConflict:
    """The answer to an open stream whose name another open one has."""
    return _conflict(f"another stream {stream_id!r} is open there")


def refuse_removed(event: EventRecord) -> RecordConflict:
    """The answer to an event that was removed from where it is to be written."""
    return _conflict(f"event {event.sequence} of stream {event.stream_key!r} was removed there")


def _conflict(why: str) -> RecordConflict:
    return RecordConflict(f"The session is not what it was in the place that it goes to: {why}.")


class RecordBackend(Protocol):
    """Reads and writes what belongs to sessions exactly as it is kept, whether it is still served or not."""

    def session_keys(self) -> AsyncIterator[Sequence[str]]:
        """The keys of all sessions and handles of the namespace of which anything is kept, in parts.

        One may come twice; one that begins or ends meanwhile may be among them or not.
        """
        ...

    async def read_outline(self, session_key: str, *, after: Outline | None, limit: int, max_bytes: int) -> OutlinePage:
        """The records of a session but for its events: its own, its state by key, its streams by their keys.

        Args:
            session_key: Of the session.
            after: The last record that was read before; None for the beginning.
            limit: How many to read at most.
            max_bytes: Of values of state, past which no more are read.
        """
        ...

    async def read_events(
        self, session_key: str, stream_key: str, *, after: int, limit: int, max_bytes: int
    ) -> list[EventRecord]:
        """The events of a stream whose numbers are greater, in their order; one at least, however large it is."""
        ...

    async def write_parcels(self, parcels: Sequence[Parcel]) -> list[RecordConflict | None]:
        """Write records in the place of older states of them, as `replacement` says.

        Events up to the mark of what was removed from their stream are removed. Those of a parcel happen together.

        Returns:
            Of each parcel None, or why nothing of it was written.
        """
        ...
