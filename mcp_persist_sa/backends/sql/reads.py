"""How events are read: one range of the primary key a page, so its cost does not grow with the table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.expression import FromClause

from mcp_persist_sa.errors import HistoryLost, SessionNotFound
from mcp_persist_sa.identity import EventId, unescape_stream_id, unknown_event
from mcp_persist_sa.models import Event, Gap, Page, StreamInfo
from mcp_persist_sa.protocols import Located
from mcp_persist_sa.schema import events, sessions, streams
from mcp_persist_sa.sqltypes import before, now

_SESSION = sa.bindparam("for_session", type_=sa.Text())
_STREAM = sa.bindparam("for_stream", type_=sa.Text())
_PLACE = sa.bindparam("place", type_=sa.BigInteger())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
_of_stream = (events.c.session_key == _SESSION) & (events.c.stream_key == _STREAM)
_expired = sa.func.coalesce(events.c.created_at <= before(now(), "event_ttl"), sa.false())
_session_over = sa.exists().where(sessions.c.session_key == _SESSION, sessions.c.expires_at <= now())

_session_closed = sa.exists().where(sessions.c.session_key == _SESSION, sessions.c.closed_at.is_not(None))


def _beside_stream(page: FromClause, *more: Any) -> Any:
    """A page beside what says whether it may be read: the stream's row, the event at the place, the session."""
    anchor = events.alias("anchor")
    at_place = (anchor.c.session_key == _SESSION) & (anchor.c.stream_key == _STREAM) & (anchor.c.sequence == _PLACE)
    return (
        sa.select(
            streams.c.purged_through,
            streams.c.purged_nonce,
            streams.c.finished,
            _session_closed.label("session_closed"),
            _session_over.label("session_over"),
            anchor.c.nonce.label("anchor_nonce"),
            page.c.sequence,
            page.c.nonce,
            page.c.message,
            page.c.final,
            page.c.created_at,
            page.c.expired,
            *more,
        )
        .select_from(streams.outerjoin(anchor, at_place).outerjoin(page, sa.true()))
        .where(streams.c.session_key == _SESSION, streams.c.stream_key == _STREAM)
        .order_by(page.c.sequence)
    )


def _page_statement() -> Any:
    """The limits stand in the inner queries, where the index gives the order; one row more tells if there are more."""
    following = (
        sa.select(events, _expired.label("expired"))
        .where(_of_stream, events.c.sequence > _PLACE)
        .order_by(events.c.sequence)
        .limit(sa.bindparam("one_more", type_=sa.Integer()))
        .subquery("following")
    )
    so_far: dict[str, Any] = {"order_by": following.c.sequence, "rows": (None, 0)}
    capped = sa.select(
        following,
        sa.func.sum(following.c.size).over(**so_far).label("running"),
        sa.func.lead(following.c.sequence).over(order_by=following.c.sequence).label("next"),
    ).subquery("capped")
    fits = capped.c.running <= sa.bindparam("max_bytes", type_=sa.BigInteger())
    page = (
        sa.select(capped)
        .where(sa.or_(fits, capped.c.running == capped.c.size))
        .order_by(capped.c.sequence)
        .limit(_LIMIT)
        .subquery("page")
    )
    return _beside_stream(page, page.c.next)


def _back_statement() -> Any:
    preceding = (
        sa.select(events, sa.false().label("expired"))
        .where(_of_stream, events.c.sequence < _PLACE, ~_expired)
        .order_by(events.c.sequence.desc())
        .limit(_LIMIT)
        .subquery("preceding")
    )
    return _beside_stream(preceding)


PAGE = _page_statement()
BACK = _back_statement()


class Reading(NamedTuple):
    """What is the same for every row that a store reads."""

    event_ttl: timedelta | None
    at: datetime | None

    def values(self, **more: Any) -> dict[str, Any]:
        """The parameters of a statement."""
        return {"event_ttl": self.event_ttl, "now": self.at, **more}


def read_page(
    connection: sa.Connection, session_key: str, after: EventId, reading: Reading, *, limit: int, max_bytes: int
) -> Page:
    """Read what follows a place."""
    values = reading.values(
        for_session=session_key,
        for_stream=after.stream_key,
        place=after.sequence,
        limit=limit,
        one_more=limit + 1,
        max_bytes=max_bytes,
    )
    rows = connection.execute(PAGE, values).all()
    header = _checked(rows)
    position = _start(header, after)
    while after.sequence == 0 and rows[-1].next is not None and rows[-1].expired:
        # A page of events that have expired and were not removed yet.
        position = rows[-1].sequence
        rows = connection.execute(PAGE, {**values, "place": position}).all()
        header = _checked(rows)
    rows = [row for row in rows if row.sequence is not None]
    fresh = [row for row in rows if not row.expired]
    if len(fresh) < len(rows):
        if after.sequence != 0:
            raise history_lost()
        position = max(row.sequence for row in rows if row.expired)
    page = _page(after.stream_key, position, fresh, more=bool(rows) and rows[-1].next is not None)
    return page._replace(finished=page.finished or (not fresh and header.finished), closed=header.session_closed)


def _checked(rows: Sequence[Any]) -> Any:
    """The first row, which says how the stream and its session are."""
    if not rows:
        raise unknown_event()
    if rows[0].session_over:
        raise _session_expired()
    return rows[0]


def _start(row: Any, after: EventId) -> int:
    """The number behind which the page begins, once it is sure that the place is what it was."""
    if after.sequence == 0:
        return row.purged_through
    nonce = row.anchor_nonce
    if nonce is None and row.purged_through == after.sequence:
        nonce = row.purged_nonce
    if nonce != after.nonce:
        raise history_lost()
    return after.sequence


def _session_expired() -> SessionNotFound:
    return SessionNotFound("The session has expired. Open a new one.")


def history_lost() -> HistoryLost:
    """The answer to a place behind which events are gone."""
    return HistoryLost("Events after this one are gone: expired, purged or rolled back. Read the present state anew.")


def _page(stream_key: str, position: int, rows: Sequence[Any], *, more: bool) -> Page:
    items: list[Event | Gap] = []
    event = None
    for row in rows:
        sequence = row.sequence
        if sequence != position + 1:
            items.append(Gap(position + 1, sequence - 1))
        event = Event(f"{stream_key}.{sequence}.{row.nonce}", sequence, row.message, row.final, row.created_at)
        items.append(event)
        position = sequence
    return Page(tuple(items), event and event.event_id, event is not None and event.final, False, more)


def read_before(connection: sa.Connection, session_key: str, before: EventId, reading: Reading, *, limit: int) -> Page:
    """Read what comes before a place, the newest `limit` events of it; before the end, if the place has no nonce."""
    values = reading.values(for_session=session_key, for_stream=before.stream_key, place=before.sequence, limit=limit)
    rows = connection.execute(BACK, values).all()
    header = _checked(rows)
    if before.nonce:
        _start(header, before)
    rows = [row for row in rows if row.sequence is not None]
    start = rows[0].sequence - 1 if rows else 0
    page = _page(before.stream_key, start, rows, more=len(rows) == limit)
    at_end = not rows and not before.nonce and header.finished
    return page._replace(finished=page.finished or at_end, closed=header.session_closed)


_RANGE_BEFORE = sa.select(sa.func.min(events.c.sequence), sa.func.max(events.c.sequence)).where(
    _of_stream, events.c.sequence < _PLACE
)


def range_before(connection: sa.Connection, session_key: str, stream_key: str, sequence: int) -> tuple[int, int] | None:
    """The lowest and the highest number below the given one under which an event is stored."""
    values = {"for_session": session_key, "for_stream": stream_key, "place": sequence}
    first, last = connection.execute(_RANGE_BEFORE, values).one()
    return None if first is None else (first, last)


_named = (
    sa.select(streams.c.stream_key)
    .where(streams.c.session_key == _SESSION, streams.c.stream_id == sa.bindparam("stream_id", type_=sa.Text()))
    .order_by(streams.c.finished, streams.c.created_at.desc(), streams.c.stream_key)
    .limit(1)
    .scalar_subquery()
)
_LOCATE = sa.select(
    _named.label("stream_key"), _session_closed.label("session_closed"), _session_over.label("session_over")
)


def locate(connection: sa.Connection, session_key: str, stream_id: str, reading: Reading) -> Located:
    """The key of the open stream of that name, or of the newest finished one."""
    row = connection.execute(_LOCATE, reading.values(for_session=session_key, stream_id=stream_id)).one()
    if row.session_over:
        raise _session_expired()
    return Located(row.stream_key, row.session_closed)


def _info_statement() -> Any:
    kept = (
        sa.select(
            events.c.stream_key,
            sa.func.count().label("count"),
            sa.func.sum(events.c.size).label("size"),
            sa.func.min(events.c.sequence).label("first"),
            sa.func.max(events.c.sequence).label("last"),
        )
        .where(events.c.session_key == _SESSION, ~_expired)
        .group_by(events.c.stream_key)
        .subquery("kept")
    )
    first, last = events.alias("first_event"), events.alias("last_event")

    def is_at(event: Any, sequence: Any) -> Any:
        return (
            (event.c.session_key == _SESSION)
            & (event.c.stream_key == streams.c.stream_key)
            & (event.c.sequence == sequence)
        )

    return (
        sa.select(
            streams,
            sa.func.coalesce(kept.c.count, 0).label("kept_events"),
            sa.func.coalesce(kept.c.size, 0).label("kept_bytes"),
            kept.c.first.label("first_sequence"),
            kept.c.last.label("newest_sequence"),
            first.c.nonce.label("first_nonce"),
            last.c.nonce.label("last_nonce"),
            last.c.created_at.label("newest_at"),
        )
        .select_from(
            streams.outerjoin(kept, kept.c.stream_key == streams.c.stream_key)
            .outerjoin(first, is_at(first, kept.c.first))
            .outerjoin(last, is_at(last, kept.c.last))
        )
        .where(streams.c.session_key == _SESSION, ~_session_over)
        .order_by(streams.c.stream_key)
    )


_INFO = _info_statement()
_ONE = _INFO.where(streams.c.stream_key == _STREAM)
_LIST = _INFO.where(streams.c.stream_key > sa.bindparam("after", type_=sa.Text())).limit(_LIMIT)


def stream_info(connection: sa.Connection, session_key: str, stream_key: str, reading: Reading) -> StreamInfo | None:
    """What is known of one stream."""
    row = connection.execute(_ONE, reading.values(for_session=session_key, for_stream=stream_key)).first()
    return None if row is None else _info(row)


def list_streams(
    connection: sa.Connection, session_key: str, reading: Reading, *, after: str, limit: int
) -> list[StreamInfo]:
    """What is known of a session's streams."""
    rows = connection.execute(_LIST, reading.values(for_session=session_key, after=after, limit=limit))
    return [_info(row) for row in rows]


def _info(row: Any) -> StreamInfo:
    def event_id(sequence: int | None, nonce: str | None) -> str | None:
        return None if sequence is None else f"{row.stream_key}.{sequence}.{nonce}"

    return StreamInfo(
        stream_id=unescape_stream_id(row.stream_id),
        stream_key=row.stream_key,
        count=row.kept_events,
        size=int(row.kept_bytes),
        first_event_id=event_id(row.first_sequence, row.first_nonce),
        last_event_id=event_id(row.newest_sequence, row.last_nonce),
        last_sequence=max(row.last_sequence, row.newest_sequence or 0),
        created_at=row.created_at,
        last_activity_at=max(row.updated_at, row.newest_at or row.updated_at),
        finished=row.finished,
        claimed=row.claimed,
    )
