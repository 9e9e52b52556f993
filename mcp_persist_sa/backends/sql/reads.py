"""How events are read: one range of the primary key a page, so its cost does not grow with the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache, partial
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.hot import Rowwise
from mcp_persist_sa.backends.sql.nodes import abandoned
from mcp_persist_sa.backends.sql.reading import (
    SESSION,
    STREAM,
    Reading,
    is_expired,
    of_stream,
    session_closed,
    session_over,
    this_stream,
)
from mcp_persist_sa.identity import FOREIGN, EventId, unescape_stream_id, unknown_event
from mcp_persist_sa.models import Event, Gap
from mcp_persist_sa.refusals import history_lost, session_expired
from mcp_persist_sa.schema import events, streams
from mcp_persist_sa.sqltypes import seconds
from mcp_persist_sa.stretches import Stretch

_PLACE = sa.bindparam("place", type_=sa.BigInteger())
_MAX_BYTES = sa.bindparam("max_bytes", type_=sa.Integer())
_INTEGER = 2**31 - 1
"""The most that a driver takes for it. Sums of a larger type would be NUMERIC on Postgres, and slow."""

_CLOSED, _OVER, _ABANDONED = 1, 2, 4


class _Header(NamedTuple):
    """How a stream is, in columns like those of its events, which it comes before.

    Attributes:
        position: Before the number of any event.
        place_nonce: Of the event at the place, also if it is the last one that was removed.
        finished: Whether the stream has ended.
        stream_id: Escaped.
        condition: Whether the session was closed, and has expired, and whether the node that should have ended the
            stream is gone: the sum of what is the case.
        nothing: A column of events alone.
        purged_through: Up to which number events were removed.
    """

    position: int
    place_nonce: str | None
    finished: bool
    stream_id: str
    condition: int
    nothing: None
    purged_through: int


class _Row(NamedTuple):
    """An event."""

    sequence: int
    nonce: str
    final: bool
    message: str | None
    expired: int
    created_at: float
    size: int


_SEQUENCE, _EXPIRED, _SIZE = (_Row._fields.index(name) for name in ("sequence", "expired", "size"))

_anchor = events.alias("anchor")
_at_place = (_anchor.c.session_key == SESSION) & (_anchor.c.stream_key == STREAM) & (_anchor.c.sequence == _PLACE)
_purged = sa.case((streams.c.purged_through == _PLACE, streams.c.purged_nonce))


def _number(condition: Any, if_so: int) -> Any:
    return sa.case((condition, sa.literal_column(str(if_so), sa.Integer())), else_=sa.literal_column("0", sa.Integer()))


@dataclass(frozen=True, eq=False)
class _Direction:
    """A way to read a stream: forwards from a place, or backwards."""

    where: Any
    expired: Any
    order: Callable[[Any], Any]
    before_all: int

    def head(self) -> Any:
        """How the stream is."""
        condition = _number(session_closed, _CLOSED) + _number(session_over, _OVER) + _number(abandoned, _ABANDONED)
        return (
            sa.select(
                sa.cast(sa.literal_column(str(self.before_all)), sa.BigInteger()).label("sequence"),
                sa.func.coalesce(_anchor.c.nonce, _purged).label("nonce"),
                streams.c.finished.label("final"),
                streams.c.stream_id.label("message"),
                condition.label("expired"),
                sa.null().label("created_at"),
                streams.c.purged_through.label("size"),
            )
            .select_from(streams.outerjoin(_anchor, _at_place))
            .where(this_stream)
        )

    def rows(self, most: int) -> Any:
        """Events along the primary key.

        Args:
            most: How many. Of a parameter, Postgres would assume a tenth of all, and plan anew each time.
        """
        return (
            sa.select(
                *(events.c.sequence, events.c.nonce, events.c.final, events.c.message),
                *(_number(self.expired, 1).label("expired"), seconds(events.c.created_at).label("created_at")),
                events.c.size,
            )
            .where(of_stream, self.where)
            .order_by(self.order(events.c.sequence))
            .limit(sa.literal_column(str(most), sa.Integer()))
        )

    def at_once(self, most: int) -> Any:
        """Both together, with hardly more bytes of events than a page has, and the event behind these.

        The first event that has bytes is always in a page, so the one behind it is sent however many those are.
        """
        rows = self.rows(most).subquery("rows")
        counted = sa.case((rows.c.size < _MAX_BYTES, rows.c.size), else_=_MAX_BYTES)
        before = sa.func.sum(counted).over(order_by=self.order(rows.c.sequence), rows=(None, -1))
        running = sa.select(rows, before.label("before")).subquery("running")
        fits = sa.func.coalesce(running.c.before, 0) <= _MAX_BYTES
        of_event: list[Any] = [running.c[column.name] for column in rows.c]
        return sa.union_all(self.head(), sa.select(*of_event).where(fits))


_FORWARDS = _Direction(events.c.sequence > _PLACE, is_expired, sa.asc, -1)
_BACKWARDS = _Direction((events.c.sequence < _PLACE) & ~is_expired, sa.false(), sa.desc, 2**63 - 1)
PAGES = {"head": _FORWARDS.head(), "rows": _FORWARDS.rows(128), "at once": _FORWARDS.at_once(128)}


@cache
def _page(direction: _Direction, size: int) -> Rowwise:
    """The head, and then the rows: as many as a number of so many bits can say, so that there are few statements."""
    most = 1 << size
    return Rowwise([direction.head(), direction.rows(most)], direction.at_once(most), backwards=direction is _BACKWARDS)


def _values_at(session_key: str, place: EventId, reading: Reading, max_bytes: int) -> dict[str, Any]:
    return reading.values(
        for_session=session_key,
        for_stream=place.stream_key,
        place=place.sequence,
        max_bytes=min(max_bytes, _INTEGER),
    )


class _Found(NamedTuple):
    """The rows of a page.

    Attributes:
        header: How the stream is.
        rows: Of its events: each the values of a `_Row`.
        more: Whether others follow.
    """

    header: _Header
    rows: list[Any]
    more: bool


def _fetched(direction: _Direction, connection: sa.Connection, values: dict[str, Any], limit: int) -> _Found:
    """As many rows as the limits of a page allow; the first that has bytes always."""
    rows: list[Any] = []
    most, read = values["max_bytes"], 0
    size = min(limit, _INTEGER).bit_length()
    with closing(_page(direction, size).each(connection, values)) as found:
        header = _header_of(next(found, None))
        for row in islice(found, limit):
            through = read + row[_SIZE]
            if through > most and read:
                return _Found(header, rows, more=True)
            read = through
            rows.append(row)
        return _Found(header, rows, more=next(found, None) is not None)


def _header_of(row: Any) -> _Header:
    if row is None:
        raise unknown_event()
    header = _Header(*row)
    if header.condition & _OVER:
        raise session_expired()
    return header


def read_after(
    connection: sa.Connection, session_key: str, after: EventId, reading: Reading, *, limit: int, max_bytes: int
) -> Stretch:
    """Read what follows a place."""
    values = _values_at(session_key, after, reading, max_bytes)
    found = _fetched(_FORWARDS, connection, values, limit)
    position = _start(found.header, after)
    while after.sequence == 0 and found.more and found.rows[-1][_EXPIRED]:
        # A page of events that have expired and were not removed yet.
        position = found.rows[-1][_SEQUENCE]
        found = _fetched(_FORWARDS, connection, {**values, "place": position}, limit)
    fresh = [row for row in found.rows if not row[_EXPIRED]]
    if len(fresh) < len(found.rows):
        if after.sequence != 0:
            raise history_lost()
        # The clocks of nodes differ: what stands before an event that has expired counts as expired, too.
        position = max(row[_SEQUENCE] for row in found.rows if row[_EXPIRED])
        fresh = [row for row in fresh if row[_SEQUENCE] > position]
    return _stretch(found._replace(rows=fresh), after.stream_key, position, at_end=True)


def _start(header: _Header, after: EventId) -> int:
    """The number behind which the page begins, once it is sure that the place is what it was."""
    if after.sequence == 0:
        return header.purged_through
    if header.place_nonce != after.nonce:
        raise history_lost()
    return after.sequence


def _items(stream_key: str, position: int, rows: Sequence[Any]) -> Iterator[Event | Gap]:
    written_at = at = None
    for sequence, nonce, final, message, _, created_at, _ in rows:
        if sequence != position + 1:
            yield Gap(position + 1, sequence - 1)
        if created_at != written_at:
            # Events of one batch mostly have the same time.
            written_at, at = created_at, datetime.fromtimestamp(created_at, timezone.utc)
        # As Event(...) would, in half the time.
        yield Event._make((f"{stream_key}.{sequence}.{nonce}", sequence, message, final == 1, at))
        position = sequence


def read_before(
    connection: sa.Connection, session_key: str, before: EventId, reading: Reading, *, limit: int, max_bytes: int
) -> Stretch:
    """Read what comes before a place, the newest `limit` events of it; before the end, if the place has no nonce."""
    found = _fetched(_BACKWARDS, connection, _values_at(session_key, before, reading, max_bytes), limit)
    if before.nonce:
        _start(found.header, before)
    rows = found.rows[::-1]
    start = rows[0][_SEQUENCE] - 1 if rows else 0
    return _stretch(found._replace(rows=rows), before.stream_key, start, at_end=not before.nonce)


def _stretch(found: _Found, stream_key: str, position: int, *, at_end: bool) -> Stretch:
    """What was found behind a number; at the end of the stream, it need not hold the final event to be finished."""
    header, rows, more = found
    last = _Row(*rows[-1]) if rows else None
    return Stretch(
        count=len(rows),
        last=EventId(stream_key, last.sequence, last.nonce) if last else None,
        items=partial(_items, stream_key, position, rows),
        finished=bool(last.final if last else at_end and header.finished),
        closed=bool(header.condition & _CLOSED),
        more=more,
        abandoned=bool(header.condition & _ABANDONED),
        stream_id=unescape_stream_id(header.stream_id),
    )


_FOREIGN = sa.select(events.c.stream_key, events.c.sequence).where(
    events.c.session_key == SESSION,
    events.c.stream_key >= FOREIGN,
    events.c.stream_key < f"{FOREIGN}~",
    events.c.nonce == sa.bindparam("nonce", type_=sa.Text()),
)


def find_foreign(connection: sa.Connection, session_key: str, nonce: str) -> EventId | None:
    """An event of an imported stream, by its nonce."""
    row = connection.execute(_FOREIGN, {"for_session": session_key, "nonce": nonce}).first()
    return None if row is None else EventId(row.stream_key, row.sequence, nonce)


_RANGE_BEFORE = sa.select(sa.func.min(events.c.sequence), sa.func.max(events.c.sequence)).where(
    of_stream, events.c.sequence < _PLACE
)


def range_before(connection: sa.Connection, session_key: str, stream_key: str, sequence: int) -> tuple[int, int] | None:
    """The lowest and the highest number below the given one under which an event is stored."""
    values = {"for_session": session_key, "for_stream": stream_key, "place": sequence}
    first, last = connection.execute(_RANGE_BEFORE, values).one()
    return None if first is None else (first, last)
