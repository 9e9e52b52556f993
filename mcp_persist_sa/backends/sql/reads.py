"""How events are read: one range of the primary key a page, so its cost does not grow with the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.expression import FromClause

from mcp_persist_sa.backends.sql.hot import Hot
from mcp_persist_sa.backends.sql.nodes import abandoned
from mcp_persist_sa.backends.sql.reading import (
    LIMIT,
    SESSION,
    STREAM,
    Reading,
    is_expired,
    of_stream,
    session_closed,
    session_expired,
    session_over,
)
from mcp_persist_sa.errors import HistoryLost
from mcp_persist_sa.identity import FOREIGN, EventId, unescape_stream_id, unknown_event
from mcp_persist_sa.models import Event, Gap, Page
from mcp_persist_sa.schema import events, streams
from mcp_persist_sa.sqltypes import moment

_PLACE = sa.bindparam("place", type_=sa.BigInteger())
_ONE_MORE = sa.bindparam("one_more", type_=sa.Integer())


_LEAN = [events.c[name] for name in ("sequence", "nonce", "final", "size", "created_at")]
"""Of an event what pages are made of; the messages are fetched at last, lest more of them be moved than are read."""


def _at(event: FromClause, sequence: Any) -> Any:
    return (event.c.session_key == SESSION) & (event.c.stream_key == STREAM) & (event.c.sequence == sequence)


class _Row(NamedTuple):
    """A row of the two statements: how the stream is, and one of its events, or None where the page has none."""

    purged_through: int
    purged_nonce: str | None
    finished: bool
    stream_id: str
    session_closed: bool
    session_over: bool
    abandoned: bool
    anchor_nonce: str | None
    sequence: Any
    nonce: str
    message: str | None
    final: bool
    created_at: Any
    expired: bool
    next: int | None


def _beside_stream(page: FromClause) -> Any:
    """A page beside what says whether it may be read: the stream's row, the event at the place, the session.

    The columns are those of `_Row`.
    """
    anchor, content = events.alias("anchor"), events.alias("content")
    message = sa.select(content.c.message).where(_at(content, page.c.sequence)).scalar_subquery()
    return (
        sa.select(
            streams.c.purged_through,
            streams.c.purged_nonce,
            streams.c.finished,
            streams.c.stream_id,
            session_closed.label("session_closed"),
            session_over.label("session_over"),
            abandoned.label("abandoned"),
            anchor.c.nonce.label("anchor_nonce"),
            page.c.sequence,
            page.c.nonce,
            message.label("message"),
            page.c.final,
            page.c.created_at,
            page.c.expired,
            page.c.next,
        )
        .select_from(streams.outerjoin(anchor, _at(anchor, _PLACE)).outerjoin(page, sa.true()))
        .where(streams.c.session_key == SESSION, streams.c.stream_key == STREAM)
        .order_by(page.c.sequence)
    )


def _page_statement() -> Any:
    """The limits stand in the inner queries, where the index gives the order; one row more tells if there are more."""
    following = (
        sa.select(*_LEAN, is_expired.label("expired"))
        .where(of_stream, events.c.sequence > _PLACE)
        .order_by(events.c.sequence)
        .limit(_ONE_MORE)
        .subquery("following")
    )
    page = _capped(following, sa.asc)
    return _beside_stream(page)


def _capped(rows: Any, in_order: Callable[[Any], Any]) -> Any:
    """As many rows, in their order, as the limits of a page allow; each with the number of the one behind it."""
    order = in_order(rows.c.sequence)
    so_far: dict[str, Any] = {"order_by": order, "rows": (None, 0)}
    capped = sa.select(
        rows,
        sa.func.sum(rows.c.size).over(**so_far).label("running"),
        sa.func.lead(rows.c.sequence).over(order_by=order).label("next"),
    ).subquery("capped")
    fits = capped.c.running <= sa.bindparam("max_bytes", type_=sa.BigInteger())
    return (
        sa.select(capped)
        .where(sa.or_(fits, capped.c.running == capped.c.size))
        .order_by(in_order(capped.c.sequence))
        .limit(LIMIT)
        .subquery("page")
    )


def _back_statement() -> Any:
    preceding = (
        sa.select(*_LEAN, sa.false().label("expired"))
        .where(of_stream, events.c.sequence < _PLACE, ~is_expired)
        .order_by(events.c.sequence.desc())
        .limit(_ONE_MORE)
        .subquery("preceding")
    )
    page = _capped(preceding, sa.desc)
    return _beside_stream(page)


PAGE = _page_statement()
BACK = _back_statement()
_FORWARDS, _BACKWARDS = Hot(PAGE), Hot(BACK)


def _values_at(session_key: str, place: EventId, reading: Reading, limit: int, max_bytes: int) -> dict[str, Any]:
    return reading.values(
        for_session=session_key,
        for_stream=place.stream_key,
        place=place.sequence,
        limit=limit,
        one_more=limit + 1,
        max_bytes=max_bytes,
    )


def read_page(
    connection: sa.Connection, session_key: str, after: EventId, reading: Reading, *, limit: int, max_bytes: int
) -> Page:
    """Read what follows a place."""
    values = _values_at(session_key, after, reading, limit, max_bytes)
    rows = _rows(_FORWARDS, connection, values)
    header = _checked(rows)
    position = _start(header, after)
    while after.sequence == 0 and rows[-1].next is not None and rows[-1].expired:
        # A page of events that have expired and were not removed yet.
        position = rows[-1].sequence
        rows = _rows(_FORWARDS, connection, {**values, "place": position})
        header = _checked(rows)
    rows = [row for row in rows if row.sequence is not None]
    fresh = [row for row in rows if not row.expired]
    if len(fresh) < len(rows):
        if after.sequence != 0:
            raise history_lost()
        position = max(row.sequence for row in rows if row.expired)
    page = _page(after.stream_key, position, fresh, more=bool(rows) and rows[-1].next is not None)
    finished = page.finished or (not fresh and bool(header.finished))
    return _of_stream(page, header, finished=finished)


def _rows(statement: Hot, connection: sa.Connection, values: dict[str, Any]) -> list[_Row]:
    return [_Row._make(row) for row in statement.rows(connection, values)]


def _checked(rows: Sequence[_Row]) -> _Row:
    """The first row, which says how the stream and its session are."""
    if not rows:
        raise unknown_event()
    if rows[0].session_over:
        raise session_expired()
    return rows[0]


def _start(row: _Row, after: EventId) -> int:
    """The number behind which the page begins, once it is sure that the place is what it was."""
    if after.sequence == 0:
        return row.purged_through
    nonce = row.anchor_nonce
    if nonce is None and row.purged_through == after.sequence:
        nonce = row.purged_nonce
    if nonce != after.nonce:
        raise history_lost()
    return after.sequence


def history_lost() -> HistoryLost:
    """The answer to a place behind which events are gone."""
    return HistoryLost("Events after this one are gone: expired, purged or rolled back. Read the present state anew.")


def _page(stream_key: str, position: int, rows: Sequence[_Row], *, more: bool) -> Page:
    items: list[Event | Gap] = []
    event = None
    for row in rows:
        sequence = row.sequence
        if sequence != position + 1:
            items.append(Gap(position + 1, sequence - 1))
        created_at = moment(row.created_at)
        event = Event(f"{stream_key}.{sequence}.{row.nonce}", sequence, row.message, bool(row.final), created_at)
        items.append(event)
        position = sequence
    return Page(tuple(items), event and event.event_id, event is not None and event.final, False, more)


def read_before(
    connection: sa.Connection, session_key: str, before: EventId, reading: Reading, *, limit: int, max_bytes: int
) -> Page:
    """Read what comes before a place, the newest `limit` events of it; before the end, if the place has no nonce."""
    values = _values_at(session_key, before, reading, limit, max_bytes)
    rows = _rows(_BACKWARDS, connection, values)
    header = _checked(rows)
    if before.nonce:
        _start(header, before)
    rows = [row for row in rows if row.sequence is not None]
    start = rows[0].sequence - 1 if rows else 0
    page = _page(before.stream_key, start, rows, more=bool(rows) and rows[0].next is not None)
    at_end = not rows and not before.nonce and bool(header.finished)
    return _of_stream(page, header, finished=page.finished or at_end)


def _of_stream(page: Page, header: _Row, *, finished: bool) -> Page:
    return page._replace(
        finished=finished,
        closed=bool(header.session_closed),
        abandoned=bool(header.abandoned),
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
