"""What both ways of storing events have in common: the rows of events, and those of new streams."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import CTE, FromClause

from mcp_persist_sa.backends.sql.hot import Hot
from mcp_persist_sa.backends.sql.rows import BIG, FLAG, INT, TEXT, Rows
from mcp_persist_sa.batches import Append, Place
from mcp_persist_sa.schema import events
from mcp_persist_sa.sqltypes import now, written_at

Results = list[Place | Exception]
"""Where each group is, or why it was refused."""

_OF_STREAM = (
    *(("stream", TEXT), ("position", BIG), ("nonce", TEXT)),
    *(("final", FLAG), ("size", INT), ("message", TEXT)),
)
ARRIVALS = Rows("arrivals", (("session_key", TEXT), *_OF_STREAM))
"""The stream is an id, and the position that among those of the batch."""

NUMBERED = Rows("arrivals", _OF_STREAM)
"""The stream is a key, by which the session is known, and the position its number there."""

STREAM_COLUMNS = [
    *("session_key", "stream_key", "stream_id", "namespace", "claimed", "finished"),
    *("last_sequence", "purged_through", "node_id", "will", "created_at", "updated_at"),
]
_EVENT_COLUMNS = ["session_key", "stream_key", "sequence", "nonce", "final", "size", "message", "created_at"]


def insert_for(dialect: str) -> Any:
    """The dialect's INSERT, which knows ON CONFLICT."""
    return postgresql.insert if dialect == "postgresql" else sqlite.insert


def arrivals_at(groups: Sequence[Append], places: Sequence[tuple[str, int]]) -> list[tuple[Any, ...]]:
    """The rows of the events of groups, each group in its stream and numbered from its first number."""
    return [
        (group.session_key, stream, sequence, nonce, final, size, message)
        for group, (stream, first) in zip(groups, places, strict=True)
        for sequence, (message, final, nonce, size) in enumerate(group.events, first)
    ]


def new_stream(source: FromClause, *, claimed: Any, finished: Any, last_sequence: Any, node_id: Any, will: Any) -> Any:
    """Rows of streams, in the order of `STREAM_COLUMNS`."""
    return sa.select(
        source.c.session_key,
        source.c.stream_key,
        source.c.stream_id,
        sa.bindparam("in_namespace", type_=TEXT),
        claimed,
        finished,
        last_sequence,
        sa.literal_column("0", BIG),
        node_id,
        will,
        now(),
        now(),
    )


def stored(arrival: FromClause, source: FromClause, *, session_key: Any, stream_key: Any, sequence: Any) -> CTE:
    """The insertion of events as a part of a statement; one that is there already is left as it is."""
    rows = sa.select(
        session_key,
        stream_key,
        sequence,
        arrival.c.nonce,
        arrival.c.final,
        arrival.c.size,
        arrival.c.message,
        written_at(),
    ).select_from(source)
    insert = postgresql.insert(events).from_select(_EVENT_COLUMNS, rows)
    return insert.on_conflict_do_nothing().cte("stored")


@cache
def _one_event(dialect: str) -> Hot:
    values: dict[str, Any] = {name: sa.bindparam(name) for name in _EVENT_COLUMNS}
    return Hot(insert_for(dialect)(events).values(values).on_conflict_do_nothing())


def put_events(connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert events by themselves; one that is there already is left as it is.

    Args:
        connection: Where.
        rows: Those of `arrivals_at`, each with its time at the end.
    """
    if rows:
        _one_event(connection.dialect.name).for_each(connection, _EVENT_COLUMNS, rows)
