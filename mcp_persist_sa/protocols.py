"""The contract between the store and the backend that keeps its data.

The store talks to it, and to a notifier (`hints.py`), through these protocols alone, so the same promises hold on every
database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

from mcp_persist_sa.batches import Append, Gate, Place
from mcp_persist_sa.identity import EventId
from mcp_persist_sa.models import JSONValue, PoolHealth, Purged, Session, SessionPage, StateEntry, StreamInfo
from mcp_persist_sa.oversight import OversightBackend, PolicyBackend, TendingBackend
from mcp_persist_sa.records import RecordBackend
from mcp_persist_sa.stretches import Stretch


class Located(NamedTuple):
    """The key of a stream, or None where there is none of that name, and how its session is."""

    stream_key: str | None
    session_closed: bool
    session_recorded: bool


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions a listing holds. None stands for any."""

    owner: str | None = None
    tenant: str | None = None
    status: str | None = None
    active_since: datetime | None = None
    idle_since: datetime | None = None
    also_expired: bool = False


class EventBackend(Protocol):
    """Keeps events.

    The numbers of a stream have no holes, and its events become visible in their order. An event id is never given
    twice. What has expired is not served, whether it was removed or not.
    """

    @property
    def writers(self) -> int:
        """How many batches are best stored at once: two where it works while this process prepares the next."""
        ...

    async def append(self, batch: Sequence[Append], gate: Gate) -> list[Place | Exception]:
        """Store events, once, and tell where; an exception stands for a group that was refused alone.

        A caller that does not learn the outcome sends the same batch again, with the same number. Batches of one writer
        are sent one at a time; what is of one session comes from one writer.

        Args:
            batch: At most one final event a stream, and nothing behind it.
            gate: Lets the batch through once.

        Raises:
            StoreUnavailable: The batch may be sent again.
        """
        ...

    async def locate(self, session_key: str, stream_id: str) -> Located:
        """Find the open stream of that name, or the newest finished one.

        Raises:
            SessionNotFound: The session has expired.
        """
        ...

    async def read(self, session_key: str, after: EventId, *, limit: int, max_bytes: int) -> Stretch:
        """The events that follow a place; sequence 0 is the place before the first that is kept.

        Raises:
            UnknownEvent: The session has no such stream.
            HistoryLost: What follows the place is gone, or it is not the event that it was.
            SessionNotFound: The session has expired.
        """
        ...

    async def find_foreign(self, session_key: str, nonce: str) -> EventId | None:
        """An event of a stream whose key begins as `identity.FOREIGN` says, by its nonce. It is asked for seldom."""
        ...

    async def read_before(self, session_key: str, before: EventId, *, limit: int, max_bytes: int) -> Stretch:
        """The newest events before a place, in their order; with no nonce, the place is the end. Raises as `read`."""
        ...

    async def streams(self, session_key: str, *, after: str, limit: int) -> list[StreamInfo]:
        """The streams of a session in the order of their keys, after one of these."""
        ...

    async def stream(self, session_key: str, stream_key: str) -> StreamInfo | None:
        """One stream."""
        ...

    async def end_abandoned(self, session_key: str, stream_key: str) -> None:
        """Take a stream from a node whose lease has run out; called again after a while, end it with its will."""
        ...

    async def delete_before(self, session_key: str, stream_key: str, sequence: int) -> int:
        """Remove the events with lower numbers, and say how many there were."""
        ...

    async def delete_events(self, session_key: str) -> Purged:
        """Remove all streams and events of a session."""
        ...


class SessionBackend(Protocol):
    """Keeps sessions."""

    async def create_session(
        self, session_key: str, session_id: str, values: Mapping[str, Any], *, fresh: bool
    ) -> Session:
        """Record a session; with a fresh id, one that is there already is the same call's, sent again.

        Raises:
            SessionExists: There is one already.
            SessionLimitReached: There are as many open ones as are allowed.
        """
        ...

    async def session(self, session_key: str) -> Session | None:
        """A session that has not expired."""
        ...

    async def open_sessions(self, session_keys: Set[str]) -> set[str]:
        """Those sessions that have neither expired nor been closed."""
        ...

    async def update_session(
        self, session_key: str, values: Mapping[str, Any], expected: Mapping[str, Any] | None = None
    ) -> Session | None:
        """Write values to an open session, and use it; not if it has other values than the expected ones."""
        ...

    async def touch_session(self, session_key: str) -> bool:
        """Move the expiry of an open session; False where there is none."""
        ...

    async def close_session(self, session_key: str) -> bool:
        """End a session; False where there is none that is open."""
        ...

    async def delete_session(self, session_key: str) -> Purged:
        """Remove a session and all that belongs to it."""
        ...

    async def sessions(
        self, which: SessionFilter, *, after: str | None, limit: int, newest_first: bool = False
    ) -> SessionPage:
        """List sessions in the order in which they were opened, or the other way round."""
        ...

    async def count_sessions(self, which: SessionFilter) -> int:
        """How many there are."""
        ...


class StateBackend(Protocol):
    """Keeps the state of sessions and handles."""

    async def get_state(self, session_key: str, key: str) -> StateEntry | None:
        """One value."""
        ...

    async def put_state(self, session_key: str, key: str, value: JSONValue, version: int | None) -> int | None:
        """Write a value and give its version.

        Args:
            session_key: Of the session or handle.
            key: Its name.
            value: JSON, checked.
            version: The version that it must have (0: there must be none), else None is returned; None for any.
        """
        ...

    async def delete_state(self, session_key: str, key: str) -> bool:
        """Remove one value; False where there was none."""
        ...

    async def clear_state(self, session_key: str) -> int:
        """Remove all values, and say how many there were."""
        ...

    async def state_keys(self, session_key: str) -> list[str]:
        """The keys, sorted."""
        ...


class NodeBackend(Protocol):
    """Keeps the leases of nodes."""

    async def renew_node(self, node_id: str, lease: timedelta) -> None:
        """Say that a node lives, and for how long that is to be believed."""
        ...

    async def listen(self, session_key: str, node_id: str, *, anew: bool) -> bool:
        """Note that the client of a session listens at a node; False if it does at another one, unless anew."""
        ...

    async def unlisten(self, session_key: str, node_id: str) -> None:
        """Note that it listens there no more."""
        ...

    async def remove_node(self, node_id: str) -> None:
        """Say that a node is gone, and remove its inbox."""
        ...

    async def nodes(self) -> dict[str, bool]:
        """The nodes that are not forgotten yet, and of each whether its lease holds."""
        ...


class Backend(
    EventBackend,
    SessionBackend,
    StateBackend,
    NodeBackend,
    RecordBackend,
    OversightBackend,
    TendingBackend,
    PolicyBackend,
    Protocol,
):
    """Keeps everything."""

    @property
    def system(self) -> Literal["sqlite", "postgresql", "redis"]:
        """Which database it is, by the name that OpenTelemetry's conventions have for it."""
        ...

    async def purge(self) -> Purged:
        """Remove what has expired or is over a limit, in chunks, and say what it was."""
        ...

    async def revision(self) -> str | None:
        """The revision of the tables, read once and without trying again; None where there are no revisions.

        Raises:
            PersistError: It cannot be read.
        """
        ...

    def pool(self) -> PoolHealth | None:
        """How busy its connections are; None where it is not known."""
        ...

    async def close(self) -> None:
        """Give back what was taken."""
        ...
