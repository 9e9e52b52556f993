"""How the beginnings of streams are removed: in parts of one short transaction each, so that no writer waits long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.audit import Trail, total
from mcp_persist_sa.backends.sql.rows import BIG, TEXT, Rows
from mcp_persist_sa.models import Purged
from mcp_persist_sa.schema import events, streams


class Cut(NamedTuple):
    """A stream, the number through which it is to be removed, and from which."""

    session_key: str
    stream_key: str
    first: int
    through: int


class _Ends(NamedTuple):
    """Where to cut, as expressions: the parameters of one cut, or the columns of many."""

    session_key: Any
    stream_key: Any
    through: Any


def _mark(end: _Ends) -> Any:
    """Note in the stream how far it is removed."""
    at_cut = events.alias("at_cut")
    of_cut = (at_cut.c.session_key == end.session_key) & (at_cut.c.stream_key == end.stream_key)
    there = sa.select(at_cut).where(of_cut, at_cut.c.sequence == end.through)

    def at_end(column: str) -> Any:
        return there.with_only_columns(at_cut.c[column]).correlate_except(at_cut).scalar_subquery()

    moment = at_end("created_at")
    return (
        sa.update(streams)
        .where(
            streams.c.session_key == end.session_key,
            streams.c.stream_key == end.stream_key,
            streams.c.purged_through < end.through,
        )
        .values(
            purged_through=end.through,
            purged_nonce=at_end("nonce"),
            last_sequence=sa.case((streams.c.last_sequence < end.through, end.through), else_=streams.c.last_sequence),
            updated_at=sa.case((streams.c.updated_at < moment, moment), else_=streams.c.updated_at),
        )
    )


def _removal(end: _Ends) -> Any:
    of_cut = (events.c.session_key == end.session_key) & (events.c.stream_key == end.stream_key)
    return sa.delete(events).where(of_cut, events.c.sequence <= end.through)


_ONE = _Ends(
    sa.bindparam("for_session", type_=TEXT), sa.bindparam("for_stream", type_=TEXT), sa.bindparam("through", type_=BIG)
)
_MARK, _REMOVE = _mark(_ONE), _removal(_ONE)

_CUTS = Rows("cuts", (("cut_session", TEXT), ("cut_stream", TEXT), ("cut_through", BIG)))
_cuts = _CUTS.relation("postgresql")
_MANY = _Ends(*_cuts.c)
# In the order of the keys, as appends lock them, or the two would wait for each other.
_LOCK_ALL = (
    sa.select(streams.c.stream_key)
    .join(_cuts, (streams.c.session_key == _MANY.session_key) & (streams.c.stream_key == _MANY.stream_key))
    .order_by(streams.c.session_key, streams.c.stream_key)
    .with_for_update(key_share=True, of=streams)
)
_gone = _removal(_MANY).returning(events.c.session_key).cte("gone")
_MARK_ALL = _mark(_MANY)
_REMOVE_ALL = sa.select(_gone.c.session_key, sa.func.count()).group_by(_gone.c.session_key)


def remove(connection: sa.Connection, cuts: Sequence[Cut], trail: Trail) -> int:
    """Remove events, mark their streams, and say how many there were. The cuts are one chunk."""
    at_once = connection.dialect.name == "postgresql"
    removed = (_remove_at_once if at_once else _remove_one_by_one)(connection, cuts)
    trail.note(connection, removed)
    return total(removed).events


def _remove_one_by_one(connection: sa.Connection, cuts: Sequence[Cut]) -> dict[str, Purged]:
    removed: dict[str, Purged] = {}
    for cut in cuts:
        values = {"for_session": cut.session_key, "for_stream": cut.stream_key, "through": cut.through}
        connection.execute(_MARK, values)
        gone = Purged(events=connection.execute(_REMOVE, values).rowcount)
        removed[cut.session_key] = removed.get(cut.session_key, Purged()).plus(gone)
    return removed


def _remove_at_once(connection: sa.Connection, cuts: Sequence[Cut]) -> dict[str, Purged]:
    """As many round trips for many streams as for one."""
    values = _CUTS.values("postgresql", [(cut.session_key, cut.stream_key, cut.through) for cut in cuts])
    connection.execute(_LOCK_ALL, values)
    connection.execute(_MARK_ALL, values)
    return {key: Purged(events=count) for key, count in connection.execute(_REMOVE_ALL, values)}


def chunks(cuts: Sequence[Cut], size: Callable[[], int]) -> Iterator[list[Cut]]:
    """Split cuts so that each part removes as many events as the size is when it is asked for, or fewer."""
    part: list[Cut] = []
    room = size()
    for cut in cuts:
        first = cut.first
        while first <= cut.through:
            through = min(cut.through, first + room - 1)
            part.append(Cut(cut.session_key, cut.stream_key, first, through))
            room -= through - first + 1
            first = through + 1
            if room == 0:
                yield part
                part, room = [], size()
    if part:
        yield part
