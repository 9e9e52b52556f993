"""What there is, in figures.

Events are not counted but by the numbers of their streams, of which there are some hundred times fewer; only of a
claimed stream that is open the newest event is looked up, because its row does not say.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql import nodes
from mcp_persist_sa.backends.sql.names import quoted_names
from mcp_persist_sa.backends.sql.sessions import is_open
from mcp_persist_sa.oversight import Holding, Rate, Stats
from mcp_persist_sa.schema import events, sessions, streams
from mcp_persist_sa.sqltypes import before, now

_HOW_MANY = 5
_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)

_newest = (
    sa.select(sa.func.max(events.c.sequence))
    .where(events.c.session_key == streams.c.session_key, events.c.stream_key == streams.c.stream_key)
    .correlate(streams)
    .scalar_subquery()
)
_last = sa.case(
    (sa.and_(streams.c.claimed, ~streams.c.finished), sa.func.coalesce(_newest, streams.c.purged_through)),
    else_=streams.c.last_sequence,
)
_held = _last - streams.c.purged_through
_here = streams.c.namespace == _NAMESPACE


def _sum(what: Any) -> Any:
    """A whole number: on Postgres, sums of large ones are decimals."""
    return sa.cast(sa.func.coalesce(sa.func.sum(what), 0), sa.BigInteger())


SESSIONS = sa.select(
    sa.func.count().label("all"),
    sa.func.count().filter(is_open).label("open"),
    sa.func.count().filter(sessions.c.expires_at <= now()).label("expired"),
    sa.func.min(sessions.c.created_at).label("oldest"),
    sa.func.count().filter(sessions.c.created_at > before(now(), "minute")).label("last_minute"),
    sa.func.count().filter(sessions.c.created_at > before(now(), "hour")).label("last_hour"),
).where(sessions.c.namespace == _NAMESPACE)

STREAMS = sa.select(
    sa.func.min(streams.c.created_at).label("oldest"),
    sa.func.count().label("all"),
    sa.func.count().filter(~streams.c.finished).label("unfinished"),
    _sum(_held).label("events"),
).where(_here)
RECENT = sa.select(
    sa.func.count().filter(streams.c.created_at > before(now(), "minute")).label("minute"),
    _sum(sa.case((streams.c.created_at > before(now(), "minute"), _held), else_=0)).label("events_of_minute"),
    sa.func.count().label("hour"),
    _sum(_held).label("events_of_hour"),
).where(_here, streams.c.created_at > before(now(), "hour"))

_most = (
    sa.select(streams.c.session_key, sa.func.count().label("streams"), _sum(_held).label("events"))
    .where(_here)
    .group_by(streams.c.session_key)
    .order_by(_sum(_held).desc(), streams.c.session_key)
    .limit(_HOW_MANY)
    .subquery("most")
)
LARGEST = (
    sa.select(sessions.c.session_id, _most.c.streams, _most.c.events)
    .select_from(_most.outerjoin(sessions, sessions.c.session_key == _most.c.session_key))
    .order_by(_most.c.events.desc(), _most.c.session_key)
)
_BYTES = (
    sa.select(sa.func.count().label("events"), _sum(events.c.size).label("bytes"))
    .select_from(
        events.join(streams, sa.and_(*(events.c[key] == streams.c[key] for key in ("session_key", "stream_key"))))
    )
    .where(_here)
)


def figures(connection: sa.Connection, common: Mapping[str, Any], schema: str | None, *, exact: bool) -> Stats:
    """What a namespace holds."""
    values = {**common, "minute": _MINUTE, "hour": _HOUR}
    of_sessions = connection.execute(SESSIONS, values).one()
    of_streams = connection.execute(STREAMS, values).one()
    recent = connection.execute(RECENT, values).one()
    counted = connection.execute(_BYTES, values).one() if exact else None
    return Stats(
        sessions=of_sessions.all,
        sessions_open=of_sessions.open,
        sessions_expired=of_sessions.expired,
        streams=of_streams.all,
        streams_unfinished=of_streams.unfinished,
        events=of_streams.events if counted is None else counted.events,
        message_bytes=None if counted is None else counted.bytes,
        disk_bytes=_disk_bytes(connection, schema),
        oldest_session=of_sessions.oldest,
        oldest_stream=of_streams.oldest,
        last_minute=Rate(of_sessions.last_minute, recent.minute, recent.events_of_minute),
        last_hour=Rate(of_sessions.last_hour, recent.hour, recent.events_of_hour),
        largest=tuple(Holding(*row) for row in connection.execute(LARGEST, values)),
        nodes=sum(nodes.known(connection, common).values()),
    )


def _disk_bytes(connection: sa.Connection, schema: str | None) -> int:
    if connection.dialect.name == "sqlite":
        pages, size = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_count", "page_size"))
        return (pages or 0) * (size or 0)
    sizes = map(sa.func.pg_total_relation_size, quoted_names(connection, schema).values())
    return sum(connection.execute(sa.select(*sizes)).one())
