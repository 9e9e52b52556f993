"""What whoever operates a store asks of its backend."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, Protocol

from mcp_persist_sa.models import Purged

Status = Literal["ok", "note", "wrong"]


class Finding(NamedTuple):
    """What was found when something was looked at.

    Attributes:
        check: What was looked at.
        status: `ok`; `note`: to be known; `wrong`: a promise is not kept, or will not be.
        found: How it is.
        advice: What to do, unless all is well.
    """

    check: str
    status: Status
    found: str
    advice: str | None = None


class Rate(NamedTuple):
    """What was opened within a span of time, and what is stored of the events of these streams."""

    sessions: int
    streams: int
    events: int


class Holding(NamedTuple):
    """What a session holds.

    Attributes:
        session_id: None for one that was never recorded, or is not any more.
        streams: How many it has.
        events: How many they hold.
    """

    session_id: str | None
    streams: int
    events: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What a namespace holds, also what has expired and was not removed yet.

    Attributes:
        sessions: Those that are recorded.
        sessions_open: Those that have neither expired nor been closed.
        sessions_expired: Those that wait to be removed.
        streams: All.
        streams_unfinished: Those that have not ended.
        events: By the numbers of their streams; a `Gap` counts as if it were stored.
        message_bytes: Of all messages, in UTF-8; None unless it was asked for, because every event has to be read.
        disk_bytes: What all namespaces take together, indexes included; None where it is not known.
        oldest_session: When it was opened.
        oldest_stream: When it was opened.
        last_minute: What was opened since.
        last_hour: What was opened since.
        largest: The sessions that hold the most events.
        nodes: How many live.
    """

    sessions: int
    sessions_open: int
    sessions_expired: int
    streams: int
    streams_unfinished: int
    events: int
    message_bytes: int | None
    disk_bytes: int | None
    oldest_session: datetime | None
    oldest_stream: datetime | None
    last_minute: Rate
    last_hour: Rate
    largest: tuple[Holding, ...]
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How much is kept of a tenant. What is None, the policy does not say: the options of the store do.

    Attributes:
        tenant: Whose sessions; None for what is of no tenant, or of one whose policy does not say.
        session_ttl: How long after its last use a session is kept.
        event_ttl: How long an event is kept.
        max_events: How many events a session keeps, the newest.
        audit_ttl: For how long it is known what was removed; None for no trail.
    """

    tenant: str | None
    session_ttl: timedelta | None = None
    event_ttl: timedelta | None = None
    max_events: int | None = None
    audit_ttl: timedelta | None = None


Reason = Literal[
    "session expired", "events expired", "stream forgotten", "state expired", "limit", "deleted", "node forgotten"
]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What one transaction removed of one tenant.

    Attributes:
        at: When.
        tenant: Of whom; None for sessions without one, those that are not recorded, and handles.
        reason: Why.
        by: The node that keeps the tables in order, `purge` (by command), `call` (of a method of the store), or
            `append` (where that went over a limit).
        sessions: How many.
        streams: How many.
        events: How many.
        state: How many values.
    """

    at: datetime
    tenant: str | None
    reason: Reason
    by: str
    sessions: int
    streams: int
    events: int
    state: int


class AuditPage(NamedTuple):
    """A page of the trail.

    Attributes:
        entries: The newest first.
        next: Give it as `after` for the next page; None at the end.
    """

    entries: tuple[AuditEntry, ...]
    next: str | None


class PolicyBackend(Protocol):
    """Keeps the policies of tenants, and the trail of what was removed.

    Each raises `Unsupported` where the database cannot do it.
    """

    async def set_policy(self, policy: Policy) -> None:
        """Write a policy; what its tenant had before is gone."""
        ...

    async def remove_policy(self, tenant: str | None) -> bool:
        """Remove the policy of a tenant; False where there was none."""
        ...

    async def policy(self, tenant: str | None) -> Policy | None:
        """That of a tenant, if there is one."""
        ...

    async def policies(self) -> list[Policy]:
        """All, in the order of their tenants."""
        ...

    async def audit(self, tenant: str | None, *, after: str | None, limit: int) -> AuditPage:
        """What was removed, the newest first; of a tenant, or of all."""
        ...


class TendingBackend(Protocol):
    """Can be kept in order."""

    async def tend(self, node_id: str, lease: timedelta, pause: timedelta) -> Purged | None:
        """Remove what has expired, as the only node that does; None if another one does, or is to do it next.

        Writers are not held up. Whoever has done it has the right to do it next, until the pause and a lease are over.

        Args:
            node_id: This node.
            lease: For how long nobody else does it if this node dies meanwhile.
            pause: After which this node means to do it again.

        Raises:
            StoreUnavailable: It could not be done.
        """
        ...

    async def leave_tending(self, node_id: str) -> None:
        """Leave it to another node."""
        ...


class OversightBackend(Protocol):
    """Can be looked at."""

    async def stats(self, *, exact: bool) -> Stats:
        """What there is; at a cost that does not grow with the number of events, unless it is to be exact."""
        ...

    async def purgeable(self) -> Purged:
        """What a purge would remove. Nothing is changed."""
        ...

    async def examine(self) -> list[Finding]:
        """Look at the database: its version, clock, durability, rights, room, and what stands between.

        Raises:
            StoreUnavailable: It cannot be reached.
        """
        ...
