"""What a purge would remove, counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql import policies
from mcp_persist_sa.backends.sql.cutting import Cut
from mcp_persist_sa.backends.sql.removal import no_session
from mcp_persist_sa.backends.sql.state import expired as state_expired
from mcp_persist_sa.models import Purged
from mcp_persist_sa.schema import events, session_state, sessions, streams
from mcp_persist_sa.sqltypes import before, now

_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_expired = sa.union(
    sa.select(sessions.c.session_key).where(sessions.c.namespace == _NAMESPACE, sessions.c.expires_at <= now()),
    policies.all_idle,
)


def _of_expired(table: sa.Table) -> Any:
    return table.c.session_key.in_(_expired)


def _count(table: sa.Table, *where: Any) -> Any:
    return sa.select(sa.func.count()).select_from(table).where(*where).scalar_subquery()


_is_value = session_state.c.value.is_not(sa.null())
_same = (events.c.session_key == streams.c.session_key) & (events.c.stream_key == streams.c.stream_key)
_is_old = sa.func.coalesce(events.c.created_at <= before(now(), "event_ttl"), sa.false()) | policies.event_is_old
_of_namespace = sa.exists().where(_same, streams.c.namespace == _NAMESPACE)
_younger = sa.exists().where(_same, events.c.created_at > before(now(), "stream_ttl"))

_WITH_SESSIONS = sa.select(
    _count(sessions, sessions.c.session_key.in_(_expired)),
    _count(streams, _of_expired(streams)),
    _count(events, _of_expired(events)),
    _count(session_state, _of_expired(session_state), _is_value),
)
_BY_AGE = sa.select(
    _count(
        streams,
        streams.c.namespace == _NAMESPACE,
        streams.c.created_at <= before(now(), "stream_ttl"),
        streams.c.updated_at <= before(now(), "stream_ttl"),
        sa.or_(streams.c.finished, no_session),
        ~_of_expired(streams),
        ~_younger,
    ),
    _count(events, _is_old, _of_namespace, ~_of_expired(events)),
    _count(
        session_state,
        session_state.c.namespace == _NAMESPACE,
        state_expired,
        _is_value,
        ~_of_expired(session_state),
    ),
)
_CUT = sa.select(sa.func.count()).where(
    events.c.session_key == sa.bindparam("for_session", type_=sa.Text()),
    events.c.stream_key == sa.bindparam("for_stream", type_=sa.Text()),
    events.c.sequence <= sa.bindparam("through", type_=sa.BigInteger()),
    events.c.sequence > sa.bindparam("counted", type_=sa.BigInteger()),
    ~_is_old,
    ~_of_expired(events),
)


def count(connection: sa.Connection, values: Mapping[str, Any]) -> Purged:
    """What goes by its age."""
    with_sessions = Purged(*connection.execute(_WITH_SESSIONS, values).one())
    return with_sessions.plus(Purged(0, *connection.execute(_BY_AGE, values).one()))


def count_cut(connection: sa.Connection, cut: Cut, counted: int, values: Mapping[str, Any]) -> int:
    """What goes because it is over a limit, and does not by its age; behind the number through which it is counted."""
    place = {"for_session": cut.session_key, "for_stream": cut.stream_key, "through": cut.through, "counted": counted}
    return connection.execute(_CUT, {**values, **place}).scalar_one()
