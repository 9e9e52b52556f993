"""Which events need not be kept: those that have expired, and those that are over a limit."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.cutting import Cut
from mcp_persist_sa.limits import Limits
from mcp_persist_sa.schema import events, sessions, streams
from mcp_persist_sa.sqltypes import Timestamp, before, now

HEAD = 1000
"""Events at the beginning of a stream that are looked at at a time."""

_STREAMS_AT_A_TIME = 20
SESSIONS_AT_A_TIME = 1000

_KEY = sa.bindparam("for_session", type_=sa.Text())
_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())


# Events that have expired. They are at the beginning of their stream, where the key finds them.

_AFTER = (
    sa.bindparam("after_moment", type_=Timestamp()),
    sa.bindparam("after_session", type_=sa.Text()),
    sa.bindparam("after_stream", type_=sa.Text()),
)
_PLACE = (streams.c.created_at, streams.c.session_key, streams.c.stream_key)
_may_hold_events = sa.or_(
    sa.bindparam("thorough", type_=sa.Boolean()),
    streams.c.finished.is_(sa.false()),
    streams.c.purged_through < streams.c.last_sequence,
)
_page = (
    sa.select(*_PLACE, streams.c.purged_through)
    .where(
        streams.c.namespace == _NAMESPACE,
        streams.c.created_at <= before(now(), "event_ttl"),
        streams.c.created_at >= _AFTER[0],
        sa.tuple_(*_PLACE) > sa.tuple_(*_AFTER),
        _may_hold_events,
    )
    .order_by(*_PLACE)
    .limit(_LIMIT)
    .subquery("page")
)
_page_of_tenant = (
    sa.select(*_PLACE, streams.c.purged_through)
    .select_from(sessions.join(streams, streams.c.session_key == sessions.c.session_key))
    .where(
        sessions.c.namespace == _NAMESPACE,
        sessions.c.tenant == sa.bindparam("of_tenant", type_=sa.Text()),
        sessions.c.session_key >= _AFTER[1],
        sa.tuple_(sessions.c.session_key, streams.c.stream_key) > sa.tuple_(*_AFTER[1:]),
        streams.c.created_at <= before(now(), "event_ttl"),
        _may_hold_events,
    )
    .order_by(sessions.c.session_key, streams.c.stream_key)
    .limit(_LIMIT)
    .subquery("page")
)


def _with_heads(page: Any, *order: str) -> Any:
    """A page of streams, and of each the number through which it has expired."""
    head = (
        sa.select(events.c.sequence, events.c.created_at)
        .where(events.c.session_key == page.c.session_key, events.c.stream_key == page.c.stream_key)
        .order_by(events.c.sequence)
        .limit(HEAD)
        .correlate(page)
        .subquery("head")
    )
    is_expired = head.c.created_at <= before(now(), "event_ttl")
    through = sa.select(sa.func.max(head.c.sequence)).where(is_expired).scalar_subquery()
    return sa.select(page, through.label("through")).order_by(*(page.c[name] for name in order))


AGED = _with_heads(_page, "created_at", "session_key", "stream_key")
AGED_OF_TENANT = _with_heads(_page_of_tenant, "session_key", "stream_key")


class Aged(NamedTuple):
    """A place among the streams in the order of their age; among those of a tenant, the age does not count."""

    moment: datetime
    session_key: str
    stream_key: str


OLDEST = Aged(datetime(1970, 1, 1, tzinfo=timezone.utc), "", "")


def aged_streams(
    connection: sa.Connection, common: Mapping[str, Any], after: Aged, *, thorough: bool, of_tenant: bool
) -> tuple[list[Cut], Aged | None]:
    """The expired beginnings of some streams, and the place at which to look on.

    Args:
        connection: Where.
        common: What many statements share, and whose, if it is of a tenant alone.
        after: Behind which place.
        thorough: Whether to look also at streams that should hold no events any more.
        of_tenant: Whether it is of a tenant alone.
    """
    place = {"after_moment": after.moment, "after_session": after.session_key, "after_stream": after.stream_key}
    values = {**common, **place, "limit": _STREAMS_AT_A_TIME, "thorough": thorough}
    rows = connection.execute(AGED_OF_TENANT if of_tenant else AGED, values).all()
    cuts = [
        Cut(row.session_key, row.stream_key, row.purged_through + 1, row.through)
        for row in rows
        if row.through is not None
    ]
    return cuts, Aged._make(rows[-1][:3]) if rows else None


# What is over a limit

_up_to_here: dict[str, Any] = {"partition_by": events.c.stream_key, "order_by": events.c.sequence}
_kept = (
    sa.select(
        events.c.stream_key,
        events.c.sequence,
        events.c.size,
        # Clocks go back at times; the order of a stream does not.
        sa.func.max(events.c.created_at).over(**_up_to_here).label("age"),
    )
    .where(events.c.session_key == _KEY)
    .subquery("kept")
)
_newest: dict[str, Any] = {"order_by": (_kept.c.age.desc(), _kept.c.stream_key, _kept.c.sequence.desc())}
_newest_of_stream: dict[str, Any] = {"partition_by": _kept.c.stream_key, "order_by": _kept.c.sequence.desc()}
_ranked = sa.select(
    _kept.c.stream_key,
    _kept.c.sequence,
    sa.func.row_number().over(**_newest_of_stream).label("stream_count"),
    sa.func.sum(_kept.c.size).over(**_newest_of_stream).label("stream_bytes"),
    sa.func.row_number().over(**_newest).label("session_count"),
    sa.func.sum(_kept.c.size).over(**_newest).label("session_bytes"),
).subquery("ranked")


def _over(column: Any, limit: str) -> Any:
    return sa.func.coalesce(column > sa.bindparam(limit, type_=sa.BigInteger()), sa.false())


_OVER = (
    sa.select(_ranked.c.stream_key, sa.func.max(_ranked.c.sequence), sa.func.min(_ranked.c.sequence))
    .where(
        sa.or_(
            _over(_ranked.c.stream_count, "events_per_stream"),
            sa.and_(_over(_ranked.c.stream_bytes, "bytes_per_stream"), _ranked.c.stream_count > 1),
            _over(_ranked.c.session_count, "events_per_session"),
            sa.and_(_over(_ranked.c.session_bytes, "bytes_per_session"), _ranked.c.session_count > 1),
        )
    )
    .group_by(_ranked.c.stream_key)
)


def over_limits(connection: sa.Connection, session_key: str, limits: Limits) -> list[Cut]:
    """What of a session is over a limit; the newest event stays, however large it is."""
    values = {
        "for_session": session_key,
        "events_per_stream": limits.events_per_stream,
        "bytes_per_stream": limits.bytes_per_stream,
        "events_per_session": limits.events_per_session,
        "bytes_per_session": limits.bytes_per_session,
    }
    rows = connection.execute(_OVER, values)
    return [Cut(session_key, stream_key, first, through) for stream_key, through, first in rows]


_SESSION_KEYS = (
    sa.select(streams.c.session_key)
    .where(streams.c.namespace == _NAMESPACE, streams.c.session_key > sa.bindparam("after", type_=sa.Text()))
    .group_by(streams.c.session_key)
    .order_by(streams.c.session_key)
    .limit(_LIMIT)
)


def session_keys(connection: sa.Connection, values: Mapping[str, Any]) -> list[str]:
    """Sessions that have streams, in the order of their keys."""
    return list(connection.execute(_SESSION_KEYS, values).scalars())
