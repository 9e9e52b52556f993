"""How events are stored in a stream to which anyone may append.

The stream *grows*: its row is locked while it hands out the next numbers, so that the events become visible in their
order. On Postgres that is one statement with the events; on SQLite, where a statement costs no round trip, it is two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.expression import CTE, FromClause

from mcp_persist_sa.backends.sql.arrivals import (
    ARRIVALS,
    STREAM_COLUMNS,
    Results,
    arrivals_at,
    insert_for,
    new_stream,
    put_events,
    stored,
)
from mcp_persist_sa.backends.sql.hot import Hot
from mcp_persist_sa.backends.sql.rows import BIG, FLAG, TEXT, Rows
from mcp_persist_sa.batches import Append, Gate, Place
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.refusals import events_unknown, stream_claimed
from mcp_persist_sa.schema import events, open_streams, streams, writers
from mcp_persist_sa.sqltypes import Key, now

_GROWTH = Rows(
    "growth", (("session_key", TEXT), ("stream_id", TEXT), ("stream_key", TEXT), ("count", BIG), ("finished", FLAG))
)

Name = tuple[str, str]
"""Session key and stream id."""


class SharedAppends:
    """The statements for one dialect."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def store(self, connection: sa.Connection, groups: Sequence[Append], gate: Gate, common: dict[str, Any]) -> Results:
        """Store groups of events; the batch may be one that was sent before."""
        growth = _growth_rows(groups)
        values: dict[str, Any] = {
            **common,
            "by_writer": gate.writer_id,
            "batch_number": gate.batch_number,
            **_GROWTH.values(self._dialect, growth),
        }
        grown: Sequence[Any]
        if self._dialect == "postgresql":
            arrivals = ARRIVALS.values(self._dialect, _numbered_arrivals(groups))
            found: Sequence[Any] = self._at_once.rows(connection, values | arrivals)
            if not found:
                return [_stored_before(connection, group) for group in groups]
            grown = [row[1:] for row in found if row[1] is not None]
        else:
            grown = self._grow_alone.rows(connection, values)
        if any(finished for *_, finished in growth):
            self._finish.rows(connection, values)
        places = _places(groups, growth, grown)
        if self._dialect != "postgresql":
            stored_ones = [
                (group, place) for group, place in zip(groups, places, strict=True) if isinstance(place, Place)
            ]
            arrivals = arrivals_at([group for group, _ in stored_ones], [place for _, place in stored_ones])
            put_events(connection, [(*row, common["now"]) for row in arrivals])
        return places

    @cached_property
    def _grow_alone(self) -> Hot:
        return Hot(self._grow(_GROWTH.relation(self._dialect)))

    def _grow(self, growth: FromClause, *where: Any) -> Any:
        nobody = {"node_id": sa.cast(sa.null(), Key), "will": sa.cast(sa.null(), TEXT)}
        begun = new_stream(growth, claimed=sa.false(), finished=sa.false(), last_sequence=growth.c["count"], **nobody)
        begun = begun.where(sa.true(), *where).order_by(growth.c.session_key, growth.c.stream_id)
        insert = insert_for(self._dialect)(streams).from_select(STREAM_COLUMNS, begun)
        more = insert.on_conflict_do_update(
            index_elements=[streams.c.session_key, streams.c.stream_id],
            index_where=open_streams.dialect_options[self._dialect]["where"],
            set_={
                "last_sequence": streams.c.last_sequence + insert.excluded.last_sequence,
                "updated_at": insert.excluded.updated_at,
            },
            where=streams.c.claimed.is_(sa.false()),
        )
        return more.returning(streams.c.session_key, streams.c.stream_id, streams.c.stream_key, streams.c.last_sequence)

    @cached_property
    def _finish(self) -> Hot:
        """A statement of its own: a row that is born finished would not meet the open one that it should grow."""
        growth = _GROWTH.relation(self._dialect)
        return Hot(
            sa.update(streams)
            .values(finished=sa.true())
            .where(
                streams.c.session_key == growth.c.session_key,
                streams.c.stream_id == growth.c.stream_id,
                growth.c.finished,
                streams.c.finished.is_(sa.false()),
                streams.c.claimed.is_(sa.false()),
            )
        )

    @cached_property
    def _at_once(self) -> Hot:
        gate = _gate()
        growth, arrival = _GROWTH.relation(self._dialect), ARRIVALS.relation(self._dialect)
        grown = self._grow(growth, sa.exists(sa.select(gate.c.batch))).cte("grown")
        target = grown.join(
            growth, (growth.c.session_key == grown.c.session_key) & (growth.c.stream_id == grown.c.stream_id)
        )
        source = arrival.join(
            target, (arrival.c.session_key == grown.c.session_key) & (arrival.c.stream == grown.c.stream_id)
        )
        place = grown.c.last_sequence - growth.c["count"] + arrival.c.position
        insert = stored(
            arrival, source, session_key=arrival.c.session_key, stream_key=grown.c.stream_key, sequence=place
        )
        return Hot(sa.select(gate.c.batch, grown).select_from(gate.outerjoin(grown, sa.true())).add_cte(insert))


def _gate() -> CTE:
    """Lets a batch through once: a second sending waits for the first, and finds the writer's row changed."""
    insert = postgresql.insert(writers).values(
        writer_id=sa.bindparam("by_writer", type_=TEXT),
        batch=sa.bindparam("batch_number", type_=BIG),
        updated_at=now(),
    )
    passed = insert.on_conflict_do_update(
        index_elements=[writers.c.writer_id],
        set_={"batch": insert.excluded.batch, "updated_at": insert.excluded.updated_at},
        where=writers.c.batch < insert.excluded.batch,
    )
    return passed.returning(writers.c.batch).cte("gate")


def _stored_before(connection: sa.Connection, group: Append) -> Place | Exception:
    """Where a group is that an earlier sending of the same batch stored."""
    same = (streams.c.session_key == events.c.session_key) & (streams.c.stream_key == events.c.stream_key)
    first = connection.execute(
        sa.select(events.c.stream_key, events.c.sequence)
        .join(streams, same)
        .where(
            events.c.session_key == group.session_key,
            streams.c.stream_id == group.stream_id,
            events.c.nonce == group.events[0].nonce,
        )
    ).first()
    if first is None:
        return events_unknown()
    return Place(first.stream_key, first.sequence)


def _growth_rows(groups: Sequence[Append]) -> list[list[Any]]:
    """One row a stream: by how many events it grows. In the order of their names, which all writers keep."""
    rows: dict[Name, list[Any]] = {}
    for group in groups:
        name = (group.session_key, group.stream_id)
        row = rows.setdefault(name, [*name, new_stream_key(), 0, False])
        row[3] += len(group.events)
        row[4] = group.events[-1].final
    return [rows[name] for name in sorted(rows)]


def _numbered_arrivals(groups: Sequence[Append]) -> list[tuple[Any, ...]]:
    """The events, each with its position among those of its stream in this batch."""
    counts: dict[Name, int] = {}
    places: list[tuple[str, int]] = []
    for group in groups:
        name = (group.session_key, group.stream_id)
        count = counts.get(name, 0)
        places.append((group.stream_id, count + 1))
        counts[name] = count + len(group.events)
    return arrivals_at(groups, places)


def _places(groups: Sequence[Append], growth: Sequence[Sequence[Any]], grown: Sequence[Any]) -> Results:
    counts = {(session_key, stream_id): count for session_key, stream_id, _, count, _ in growth}
    next_place: dict[Name, Place] = {}
    for session_key, stream_id, stream_key, last in grown:
        name = (session_key, stream_id)
        next_place[name] = Place(stream_key, last - counts[name] + 1)
    places: Results = []
    for group in groups:
        name = (group.session_key, group.stream_id)
        place = next_place.get(name)
        places.append(place or stream_claimed())
        if place is not None:
            next_place[name] = Place(place.stream_key, place.first_sequence + len(group.events))
    return places
