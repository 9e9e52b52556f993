"""What is known of streams: the one of a name, how much it holds, all of a session."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.reading import (
    LIMIT,
    SESSION,
    STREAM,
    Reading,
    is_expired,
    session_closed,
    session_over,
    session_recorded,
)
from mcp_persist_sa.identity import unescape_stream_id
from mcp_persist_sa.models import StreamInfo
from mcp_persist_sa.protocols import Located
from mcp_persist_sa.refusals import session_expired
from mcp_persist_sa.schema import events, streams

_named = (
    sa.select(streams.c.stream_key)
    .where(streams.c.session_key == SESSION, streams.c.stream_id == sa.bindparam("stream_id", type_=sa.Text()))
    .order_by(streams.c.finished, streams.c.created_at.desc(), streams.c.stream_key)
    .limit(1)
    .scalar_subquery()
)
_LOCATE = sa.select(
    _named.label("stream_key"),
    session_closed.label("session_closed"),
    session_over.label("session_over"),
    session_recorded.label("session_recorded"),
)


def locate(connection: sa.Connection, session_key: str, stream_id: str, reading: Reading) -> Located:
    """The key of the open stream of that name, or of the newest finished one."""
    row = connection.execute(_LOCATE, reading.values(for_session=session_key, stream_id=stream_id)).one()
    if row.session_over:
        raise session_expired()
    return Located(row.stream_key, row.session_closed, row.session_recorded)


def _kept_of(keys: Any) -> Any:
    """What is kept of some streams."""
    return (
        sa.select(
            events.c.stream_key,
            sa.func.count().filter(~is_expired).label("count"),
            sa.func.sum(events.c.size).filter(~is_expired).label("size"),
            sa.func.min(events.c.sequence).filter(~is_expired).label("first"),
            sa.func.max(events.c.sequence).label("last"),
        )
        .where(events.c.session_key == SESSION, events.c.stream_key.in_(keys))
        .group_by(events.c.stream_key)
        .subquery("kept")
    )


def _is_at(event: Any, sequence: Any) -> Any:
    in_stream = (event.c.session_key == SESSION) & (event.c.stream_key == streams.c.stream_key)
    return in_stream & (event.c.sequence == sequence)


def _info_statement(chosen: Any) -> Any:
    """What is known of the chosen streams; of the session's events only theirs are counted."""
    keys = sa.select(chosen.c.stream_key)
    kept = _kept_of(keys)
    first, last = events.alias("first_event"), events.alias("last_event")
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
            .outerjoin(first, _is_at(first, kept.c.first))
            .outerjoin(last, _is_at(last, kept.c.last))
        )
        .where(streams.c.session_key == SESSION, streams.c.stream_key.in_(keys), ~session_over)
        .order_by(streams.c.stream_key)
    )


_of_session = sa.select(streams.c.stream_key).where(streams.c.session_key == SESSION)
_one = _of_session.where(streams.c.stream_key == STREAM)
_following = (
    _of_session.where(streams.c.stream_key > sa.bindparam("after", type_=sa.Text()))
    .order_by(streams.c.stream_key)
    .limit(LIMIT)
)
ONE = _info_statement(_one.cte("chosen"))
LIST = _info_statement(_following.cte("chosen"))


def stream_info(connection: sa.Connection, session_key: str, stream_key: str, reading: Reading) -> StreamInfo | None:
    """What is known of one stream."""
    row = connection.execute(ONE, reading.values(for_session=session_key, for_stream=stream_key)).first()
    return None if row is None else _info(row)


def list_streams(
    connection: sa.Connection, session_key: str, reading: Reading, *, after: str, limit: int
) -> list[StreamInfo]:
    """What is known of a session's streams."""
    rows = connection.execute(LIST, reading.values(for_session=session_key, after=after, limit=limit))
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
        last_event_id=event_id(row.newest_sequence, row.last_nonce) if row.kept_events else None,
        last_sequence=max(row.last_sequence, row.newest_sequence or 0),
        created_at=row.created_at,
        last_activity_at=max(row.updated_at, row.newest_at or row.updated_at),
        finished=row.finished,
        claimed=row.claimed,
    )
