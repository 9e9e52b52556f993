"""How records are read exactly as they are kept: for copies and exports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.hot import Hot
from mcp_persist_sa.backends.sql.reading import LIMIT, SESSION, of_stream
from mcp_persist_sa.backends.sql.sessions import session_of
from mcp_persist_sa.models import Session
from mcp_persist_sa.records import EventRecord, Outline, OutlinePage, StateRecord, StreamRecord
from mcp_persist_sa.schema import events, session_state, sessions, streams
from mcp_persist_sa.sqltypes import moment

KEYS_AT_A_TIME = 500

_AFTER = sa.bindparam("after", type_=sa.Text())
_THROUGH = sa.bindparam("through", type_=sa.BigInteger())
_PLACE = sa.bindparam("place", type_=sa.BigInteger())
_CHOSEN = sa.bindparam("chosen", expanding=True, type_=sa.Text())


def _next_keys(table: sa.Table) -> Any:
    # Not by namespace: that index has the keys in another order, and each page would read all of it.
    following = (
        sa.select(table.c.session_key, sa.func.min(table.c.namespace).label("namespace"))
        .where(table.c.session_key > _AFTER)
        .group_by(table.c.session_key)
        .order_by(table.c.session_key)
        .limit(LIMIT)
        .subquery()
    )
    return sa.select(following.c.session_key, following.c.namespace)


KEYS = sa.union(*map(_next_keys, (sessions, session_state, streams))).order_by("session_key").limit(LIMIT)


class Keys(NamedTuple):
    """Some keys of a namespace, and after which to look on; None at the end."""

    keys: list[str]
    last: str | None


def session_keys(connection: sa.Connection, namespace: str, after: str) -> Keys:
    """The keys of sessions and handles that follow one, in their order."""
    rows = connection.execute(KEYS, {"after": after, "limit": KEYS_AT_A_TIME}).all()
    return Keys([row.session_key for row in rows if row.namespace == namespace], rows[-1].session_key if rows else None)


# What a session consists of

_SESSION = sa.select(sessions).where(sessions.c.session_key == SESSION)

_text = sa.type_coerce(session_state.c.value, sa.Text())
_of_state = session_state.c.session_key == SESSION
_STATE = sa.select(
    session_state.c.key, _text.label("value"), session_state.c.version, session_state.c.updated_at
).where(_of_state)
_STATE_SIZES = (
    sa.select(session_state.c.key, sa.func.coalesce(sa.func.length(_text), 0))
    .where(_of_state, session_state.c.key > _AFTER)
    .order_by(session_state.c.key)
    .limit(LIMIT)
)
_STATE_PAGE = _STATE.where(
    session_state.c.key > _AFTER, session_state.c.key <= sa.bindparam("last", type_=sa.Text())
).order_by(session_state.c.key)
_STATE_CHOSEN = _STATE.where(session_state.c.key.in_(_CHOSEN))

_newest = (
    sa.select(events.c.sequence)
    .where(events.c.session_key == streams.c.session_key, events.c.stream_key == streams.c.stream_key)
    .order_by(events.c.sequence.desc())
    .limit(1)
    .correlate(streams)
)
_STREAMS = sa.select(
    streams,
    _newest.scalar_subquery().label("newest"),
    _newest.with_only_columns(events.c.created_at).scalar_subquery().label("newest_at"),
).where(streams.c.session_key == SESSION)
STREAM_PAGE = _STREAMS.where(streams.c.stream_key > _AFTER).order_by(streams.c.stream_key).limit(LIMIT)
_STREAMS_CHOSEN = _STREAMS.where(streams.c.stream_key.in_(_CHOSEN))


def read_outline(
    connection: sa.Connection, session_key: str, *, after: Outline | None, limit: int, max_bytes: int
) -> OutlinePage:
    """What follows a record: the session's own, its state, its streams."""
    found: list[Outline] = []
    if after is None:
        found += session_record(connection, session_key)
    if not isinstance(after, StreamRecord):
        key = after.key if isinstance(after, StateRecord) else ""
        state, more = _state_page(connection, session_key, key, limit - len(found), max_bytes)
        found += state
        if more:
            return OutlinePage(found, True)
    key = after.stream_key if isinstance(after, StreamRecord) else ""
    values = {"for_session": session_key, "after": key, "limit": limit - len(found)}
    found += map(_stream_record, connection.execute(STREAM_PAGE, values))
    return OutlinePage(found, len(found) == limit)


def session_record(connection: sa.Connection, session_key: str) -> list[Session]:
    """The record of a session, if there is one."""
    return [session_of(row) for row in connection.execute(_SESSION, {"for_session": session_key})]


def _state_page(
    connection: sa.Connection, session_key: str, after: str, limit: int, max_bytes: int
) -> tuple[list[StateRecord], bool]:
    """Values that follow a key, and whether there may be more."""
    values: dict[str, Any] = {"for_session": session_key, "after": after, "limit": limit}
    sizes = connection.execute(_STATE_SIZES, values).all()
    if not sizes:
        return [], False
    last = within(sizes, max_bytes)
    rows = connection.execute(_STATE_PAGE, {**values, "last": last})
    return [StateRecord._make(row) for row in rows], last != sizes[-1][0] or len(sizes) == limit


def within(sizes: Sequence[Any], max_bytes: int) -> Any:
    """The last of some rows, given as key and size, that fits into so many bytes; the first one at least."""
    left = max_bytes - sizes[0][1]
    last = sizes[0][0]
    for key, size in sizes[1:]:
        left -= size
        if left < 0:
            break
        last = key
    return last


def chosen_state(connection: sa.Connection, session_key: str, keys: Iterable[str]) -> dict[str, StateRecord]:
    """Values by their keys."""
    rows = connection.execute(_STATE_CHOSEN, {"for_session": session_key, "chosen": list(keys)})
    return {row.key: StateRecord._make(row) for row in rows}


def chosen_streams(connection: sa.Connection, session_key: str, keys: Iterable[str]) -> dict[str, StreamRecord]:
    """Streams by their keys."""
    rows = connection.execute(_STREAMS_CHOSEN, {"for_session": session_key, "chosen": list(keys)})
    return {row.stream_key: _stream_record(row) for row in rows}


def _stream_record(row: Any) -> StreamRecord:
    return StreamRecord(
        stream_key=row.stream_key,
        stream_id=row.stream_id,
        claimed=row.claimed,
        finished=row.finished,
        last_sequence=max(row.last_sequence, row.newest or 0),
        purged_through=row.purged_through,
        purged_nonce=row.purged_nonce,
        node_id=row.node_id,
        will=None if row.finished else row.will,
        created_at=row.created_at,
        updated_at=max(row.updated_at, row.newest_at or row.updated_at),
    )


# Events

_SIZES = Hot(
    sa.select(events.c.sequence, events.c.size)
    .where(of_stream, events.c.sequence > _PLACE)
    .order_by(events.c.sequence)
    .limit(LIMIT)
)
EVENTS = (
    sa.select(events.c.sequence, events.c.nonce, events.c.final, events.c.created_at, events.c.message)
    .where(of_stream, events.c.sequence > _PLACE, events.c.sequence <= _THROUGH)
    .order_by(events.c.sequence)
)
_READ_EVENTS = Hot(EVENTS)


def read_events(
    connection: sa.Connection, session_key: str, stream_key: str, *, after: int, limit: int, max_bytes: int
) -> list[EventRecord]:
    """The events that follow a number."""
    values = {"for_session": session_key, "for_stream": stream_key, "place": after, "limit": limit}
    sizes = _SIZES.rows(connection, values)
    if not sizes:
        return []
    return events_between(connection, session_key, stream_key, after, within(sizes, max_bytes))


def events_between(
    connection: sa.Connection, session_key: str, stream_key: str, after: int, through: int
) -> list[EventRecord]:
    """The events whose numbers are greater than one, up to another."""
    values = {"for_session": session_key, "for_stream": stream_key, "place": after, "through": through}
    return [
        EventRecord(stream_key, sequence, nonce, bool(final), moment(created_at), message)
        for sequence, nonce, final, created_at, message in _READ_EVENTS.rows(connection, values)
    ]
