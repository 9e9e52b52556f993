"""What is removed, and how: in chunks of one short transaction each, so that no writer waits for long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.limits import Limits
from mcp_persist_sa.schema import events, streams
from mcp_persist_sa.sqltypes import before, now

CHUNK = 1000
"""Events that are removed in one transaction."""

_KEY = sa.bindparam("for_session", type_=sa.Text())
_STREAM = sa.bindparam("for_stream", type_=sa.Text())
_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
_THROUGH = sa.bindparam("through", type_=sa.BigInteger())


class Cut(NamedTuple):
    """A stream, the number through which it is to be removed, and from which."""

    session_key: str
    stream_key: str
    first: int
    through: int


_of_cut = (events.c.session_key == _KEY) & (events.c.stream_key == _STREAM)
_at_cut = sa.select(events).where(_of_cut, events.c.sequence == _THROUGH).subquery("at_cut")
_cut_at = sa.select(_at_cut.c.created_at).scalar_subquery()
_MARK = (
    sa.update(streams)
    .where(streams.c.session_key == _KEY, streams.c.stream_key == _STREAM, streams.c.purged_through < _THROUGH)
    .values(
        purged_through=_THROUGH,
        purged_nonce=sa.select(_at_cut.c.nonce).scalar_subquery(),
        last_sequence=sa.case((streams.c.last_sequence < _THROUGH, _THROUGH), else_=streams.c.last_sequence),
        updated_at=sa.case((streams.c.updated_at < _cut_at, _cut_at), else_=streams.c.updated_at),
    )
)
_REMOVE = sa.delete(events).where(_of_cut, events.c.sequence <= _THROUGH)


def remove(connection: sa.Connection, cuts: Sequence[Cut]) -> int:
    """Remove events, mark their streams, and say how many there were. The cuts are one chunk."""
    removed = 0
    for cut in sorted(cuts):
        values = {"for_session": cut.session_key, "for_stream": cut.stream_key, "through": cut.through}
        connection.execute(_MARK, values)
        removed += connection.execute(_REMOVE, values).rowcount
    return removed


def chunks(cuts: Sequence[Cut]) -> Iterator[list[Cut]]:
    """Split cuts so that each part removes at most `CHUNK` events."""
    part: list[Cut] = []
    room = CHUNK
    for cut in cuts:
        first = cut.first
        while first <= cut.through:
            through = min(cut.through, first + room - 1)
            part.append(Cut(cut.session_key, cut.stream_key, first, through))
            room -= through - first + 1
            first = through + 1
            if room == 0:
                yield part
                part, room = [], CHUNK
    if part:
        yield part


# Events that have expired. They are at the beginning of their stream, where the key finds them.

_head = (
    sa.select(events.c.sequence, events.c.created_at)
    .where(events.c.session_key == streams.c.session_key, events.c.stream_key == streams.c.stream_key)
    .order_by(events.c.sequence)
    .limit(CHUNK)
    .correlate(streams)
    .subquery("head")
)
_through = (
    sa.select(sa.func.max(_head.c.sequence)).where(_head.c.created_at <= before(now(), "event_ttl")).scalar_subquery()
)
_AGED = (
    sa.select(
        streams.c.session_key,
        streams.c.stream_key,
        streams.c.purged_through,
        streams.c.created_at,
        _through.label("through"),
    )
    .where(
        streams.c.namespace == _NAMESPACE,
        streams.c.created_at <= before(now(), "event_ttl"),
        sa.tuple_(streams.c.session_key, streams.c.stream_key)
        > sa.tuple_(sa.bindparam("after_session", type_=sa.Text()), sa.bindparam("after_stream", type_=sa.Text())),
    )
    .order_by(streams.c.session_key, streams.c.stream_key)
    .limit(_LIMIT)
)


def aged_streams(
    connection: sa.Connection, common: Mapping[str, Any], after: tuple[str, str]
) -> tuple[list[Cut], tuple[str, str] | None]:
    """The expired beginnings of some streams, and the place at which to look on."""
    values = {**common, "after_session": after[0], "after_stream": after[1], "limit": CHUNK // 10}
    rows = connection.execute(_AGED, values).all()
    cuts = [Cut(row[0], row[1], row.purged_through + 1, row.through) for row in rows if row.through is not None]
    last = (rows[-1].session_key, rows[-1].stream_key) if rows else None
    return cuts, last


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


def session_keys(connection: sa.Connection, common: Mapping[str, Any], after: str) -> list[str]:
    """Sessions that have streams, in the order of their keys."""
    return list(connection.execute(_SESSION_KEYS, {**common, "after": after, "limit": CHUNK}).scalars())
