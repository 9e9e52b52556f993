"""How whole rows are removed: sessions with all that is theirs, and what is left of what nobody needs any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.audit import Trail, by_session, total
from mcp_persist_sa.backends.sql.state import expired as state_expired
from mcp_persist_sa.models import Purged
from mcp_persist_sa.schema import events, session_state, sessions, streams, writers
from mcp_persist_sa.sqltypes import before, now

_KEY = sa.bindparam("for_session", type_=sa.Text())
_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
_SESSIONS_AT_A_TIME = 100

# Whole sessions

EXPIRED_SESSIONS = (
    sa.select(sessions.c.session_key)
    .where(sessions.c.namespace == _NAMESPACE, sessions.c.expires_at <= now())
    .order_by(sessions.c.expires_at)
    .limit(_LIMIT)
)
_is_expired = sa.exists().where(sessions.c.session_key == _KEY, sessions.c.expires_at <= now())
_some_events = sa.select(events.c.stream_key, events.c.sequence).where(events.c.session_key == _KEY).limit(_LIMIT)
_SOME_EVENTS = sa.delete(events).where(
    events.c.session_key == _KEY, sa.tuple_(events.c.stream_key, events.c.sequence).in_(_some_events)
)
_some_streams = sa.select(streams.c.stream_key).where(streams.c.session_key == _KEY).limit(_LIMIT)
_SOME_STREAMS = sa.delete(streams).where(streams.c.session_key == _KEY, streams.c.stream_key.in_(_some_streams))


def expired_sessions(connection: sa.Connection, common: Mapping[str, Any]) -> list[str]:
    """Some sessions that have expired."""
    return list(connection.execute(EXPIRED_SESSIONS, {**common, "limit": _SESSIONS_AT_A_TIME}).scalars())


def remove_sessions(
    connection: sa.Connection, keys: Sequence[str], limit: int, *, if_expired: bool, trail: Trail
) -> tuple[Purged, int]:
    """Remove about so many rows of sessions, one session after the other.

    Args:
        connection: Where.
        keys: The sessions.
        limit: How many rows.
        if_expired: Whether to leave sessions that have not expired, such as one that was opened anew meanwhile.
        trail: Where it is written down.

    Returns:
        What was removed, and of how many sessions that was all.
    """
    watched = trail.watched(connection, keys)
    removed: dict[str, Purged] = {}
    room, done = limit, 0
    for key in keys:
        removed[key] = _remove_contents(connection, key, room, if_expired, trail.common)
        room -= sum(removed[key])
        if room <= 0:
            break
        rest = _remove_session(connection, key, if_expired, trail.common)
        removed[key] = removed[key].plus(rest)
        room -= sum(rest)
        done += 1
        if room <= 0:
            break
    trail.write(connection, watched, removed)
    return total(removed), done


def _remove_contents(
    connection: sa.Connection, session_key: str, limit: int, if_expired: bool, common: Mapping[str, Any]
) -> Purged:
    """Remove so many of the events and streams of a session."""
    counts: list[int] = []
    for removal in (_SOME_EVENTS, _SOME_STREAMS):
        statement = removal.where(_is_expired) if if_expired else removal
        values = {**common, "for_session": session_key, "limit": limit - sum(counts)}
        counts.append(connection.execute(statement, values).rowcount)
    return Purged(events=counts[0], streams=counts[1])


def _remove_streams(connection: sa.Connection, session_key: str) -> Purged:
    """Remove a session's streams, and the events that came meanwhile."""
    gone = connection.execute(sa.delete(streams).where(streams.c.session_key == session_key)).rowcount
    late = connection.execute(sa.delete(events).where(events.c.session_key == session_key)).rowcount
    return Purged(streams=gone, events=late)


def _remove_session(connection: sa.Connection, session_key: str, if_expired: bool, common: Mapping[str, Any]) -> Purged:
    """Remove a session with its state, and what has come since its streams were removed."""
    which = sa.delete(sessions).where(sessions.c.session_key == session_key)
    if if_expired:
        which = which.where(sessions.c.expires_at <= now())
    gone = connection.execute(which, common).rowcount
    if if_expired and not gone:
        return Purged()
    values = sa.delete(session_state).where(session_state.c.session_key == session_key)
    state = connection.execute(values.where(~_deleted)).rowcount
    connection.execute(values)
    return Purged(sessions=gone, state=state).plus(_remove_streams(connection, session_key))


def remove_contents(connection: sa.Connection, session_key: str, limit: int, trail: Trail) -> tuple[Purged, bool]:
    """Remove about so many of the events and streams of a session, and say whether that was all."""
    removed = _remove_contents(connection, session_key, limit, False, trail.common)
    is_all = sum(removed) < limit
    if is_all:
        removed = removed.plus(_remove_streams(connection, session_key))
    trail.note(connection, {session_key: removed})
    return removed, is_all


# What is left

_deleted = session_state.c.value.is_(sa.null())
no_session = ~sa.exists(sa.select(sessions.c.session_key).where(sessions.c.session_key == streams.c.session_key))
_no_events = ~sa.exists(
    sa.select(events.c.sequence).where(
        events.c.session_key == streams.c.session_key, events.c.stream_key == streams.c.stream_key
    )
)
_some_empty = (
    sa.select(streams.c.session_key, streams.c.stream_key)
    .where(
        streams.c.namespace == _NAMESPACE,
        streams.c.created_at <= before(now(), "stream_ttl"),
        streams.c.updated_at <= before(now(), "stream_ttl"),
        sa.or_(streams.c.finished, no_session),
        _no_events,
    )
    .limit(_LIMIT)
)
_EMPTY_STREAMS = (
    sa.delete(streams)
    .where(sa.tuple_(streams.c.session_key, streams.c.stream_key).in_(_some_empty))
    .returning(streams.c.session_key)
)


def _state_removal(*where: Any) -> Any:
    some = (
        sa.select(session_state.c.session_key, session_state.c.key)
        .where(session_state.c.namespace == _NAMESPACE, *where)
        .limit(_LIMIT)
    )
    return sa.delete(session_state).where(sa.tuple_(session_state.c.session_key, session_state.c.key).in_(some))


_OLD_STATE = _state_removal(state_expired, ~_deleted).returning(session_state.c.session_key)
_DELETED_STATE = _state_removal(_deleted, session_state.c.updated_at <= before(now(), "forget_after"))
_some_writers = (
    sa.select(writers.c.writer_id).where(writers.c.updated_at <= before(now(), "forget_after")).limit(_LIMIT)
)
_OLD_WRITERS = sa.delete(writers).where(writers.c.writer_id.in_(_some_writers))


def remove_empty_streams(connection: sa.Connection, trail: Trail) -> int:
    """Remove some streams that are empty and so old that their event ids need not be known any more."""
    removed = by_session(connection.execute(_EMPTY_STREAMS, trail.common), "streams")
    trail.note(connection, removed)
    return total(removed).streams


def remove_old_state(connection: sa.Connection, trail: Trail) -> int:
    """Remove some state that is not served any more."""
    removed = by_session(connection.execute(_OLD_STATE, trail.common), "state")
    trail.note(connection, removed)
    return total(removed).state


def remove_deleted_state(connection: sa.Connection, common: Mapping[str, Any]) -> int:
    """Forget the versions of some values that were deleted long ago."""
    return connection.execute(_DELETED_STATE, common).rowcount


def remove_old_writers(connection: sa.Connection, common: Mapping[str, Any]) -> int:
    """Forget some writers whose last batch is long past."""
    return connection.execute(_OLD_WRITERS, common).rowcount
