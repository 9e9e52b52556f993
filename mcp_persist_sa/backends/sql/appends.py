"""How events are stored: one statement a batch on Postgres, the same parts one after the other on SQLite.

A stream to which anyone may append is *grown*: its row is locked while it hands out the next numbers, so that the events
become visible in their order. A *claimed* stream has one writer, which numbered the events itself; its row is written
when it is opened and when it ends, and not in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.expression import CTE, FromClause, Select

from mcp_persist_sa.backends.sql.rows import Rows
from mcp_persist_sa.errors import OutcomeUnknown, StreamClaimed
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.protocols import Append, Claim, Place
from mcp_persist_sa.schema import events, open_streams, streams, writers
from mcp_persist_sa.sqltypes import Timestamp, now

_TEXT, _BIG, _INT, _FLAG = sa.Text(), sa.BigInteger(), sa.Integer(), sa.Boolean()

_GROWTH = Rows(
    "growth",
    (("session_key", _TEXT), ("stream_id", _TEXT), ("stream_key", _TEXT), ("count", _BIG), ("finished", _FLAG)),
)
_CLAIMS = Rows(
    "claims",
    (
        ("session_key", _TEXT),
        ("stream_id", _TEXT),
        ("stream_key", _TEXT),
        ("opening", _FLAG),
        ("finished", _FLAG),
        ("last_sequence", _BIG),
    ),
)
_EVENTS = Rows(
    "arrivals",
    (
        ("session_key", _TEXT),
        ("stream", _TEXT),
        ("position", _BIG),
        ("nonce", _TEXT),
        ("final", _FLAG),
        ("size", _INT),
        ("message", _TEXT),
    ),
)
_EVENT_COLUMNS = ["session_key", "stream_key", "sequence", "nonce", "final", "size", "created_at", "message"]
_STREAM_COLUMNS = [
    *("session_key", "stream_key", "stream_id", "namespace", "claimed", "finished"),
    *("last_sequence", "purged_through", "created_at", "updated_at"),
]


class Gate(NamedTuple):
    """Lets a batch through once, however often it is sent."""

    writer_id: str
    batch_number: int


def is_one_statement(batch: Sequence[Append]) -> bool:
    """Whether a batch is stored by one statement on Postgres, so that no transaction need be opened around it.

    The end of a stream that is grown takes a second one: a row that is born finished would not meet the open one.
    """
    return not any(group.claim is None and group.events[-1].final for group in batch)


class Appends:
    """The statements that store a batch, for one dialect."""

    def __init__(self, dialect: str, namespace: str) -> None:
        self.dialect = dialect
        self._namespace = namespace
        self._insert = postgresql.insert if dialect == "postgresql" else sqlite.insert

    def store(
        self, connection: sa.Connection, batch: Sequence[Append], gate: Gate, at: datetime | None
    ) -> list[Place | Exception]:
        """Store a batch within a transaction, or in autocommit where each part is one statement."""
        claimed = [group for group in batch if group.claim is not None]
        shared = [group for group in batch if group.claim is None]
        results: dict[int, Place | Exception] = {}
        if claimed:
            results.update(self._store_claimed(connection, claimed, at))
        if shared:
            results.update(self._store_shared(connection, shared, gate, at))
        return [results[id(group)] for group in batch]

    # Claimed streams

    def _store_claimed(
        self, connection: sa.Connection, groups: Sequence[Append], at: datetime | None
    ) -> dict[int, Place | Exception]:
        rows = _claim_rows(groups)
        values = {"now": at, "in_namespace": self._namespace, **_CLAIMS.values(self.dialect, rows)}
        arrivals = [row for group in groups for row in _claimed_arrivals(group)]
        if self.dialect == "postgresql":
            found = connection.execute(self._claimed_at_once, values | _EVENTS.values(self.dialect, arrivals))
            known = set(found.scalars())
        else:
            known = self._claimed_in_steps(connection, rows, values, arrivals)
        return {id(group): _claimed_place(group, known) for group in groups}

    def _claimed_in_steps(
        self, connection: sa.Connection, rows: list[list[Any]], values: dict[str, Any], arrivals: list[list[Any]]
    ) -> set[str]:
        if any(opening for _, _, _, opening, _, _ in rows):
            connection.execute(self._opened, values)
        known = set(connection.execute(self._known, values).scalars())
        self._insert_events(connection, [row for row in arrivals if row[1] in known], values["now"])
        if any(finished and not opening for _, _, _, opening, finished, _ in rows):
            connection.execute(self._ended, values)
        return known

    @cached_property
    def _claims(self) -> FromClause:
        return _CLAIMS.relation(self.dialect)

    @cached_property
    def _opened(self) -> Any:
        claim = self._claims
        rival = streams.alias("rival")
        taken = sa.exists().where(
            rival.c.session_key == claim.c.session_key,
            rival.c.stream_id == claim.c.stream_id,
            rival.c.finished.is_(sa.false()),
        )
        opening = self._new_stream(claim, claimed=True).where(claim.c.opening, ~taken)
        return self._insert(streams).from_select(_STREAM_COLUMNS, opening).on_conflict_do_nothing()

    @cached_property
    def _known(self) -> Select[Any]:
        claim = self._claims
        same = (streams.c.session_key == claim.c.session_key) & (streams.c.stream_key == claim.c.stream_key)
        return sa.select(streams.c.stream_key).select_from(streams.join(claim, same))

    @cached_property
    def _ended(self) -> Any:
        claim = self._claims
        return (
            sa.update(streams)
            .values(finished=sa.true(), last_sequence=claim.c.last_sequence, updated_at=now())
            .where(
                streams.c.session_key == claim.c.session_key,
                streams.c.stream_key == claim.c.stream_key,
                claim.c.finished,
                streams.c.finished.is_(sa.false()),
            )
        )

    @cached_property
    def _claimed_at_once(self) -> Select[Any]:
        opened = self._opened.returning(streams.c.stream_key).cte("opened")
        known = sa.union(sa.select(opened.c.stream_key), self._known).cte("known")
        arrival = _EVENTS.relation(self.dialect)
        stored = self._event_insert(arrival, known, known.c.stream_key == arrival.c.stream, arrival.c.position)
        ended = self._ended.cte("ended")
        return sa.select(known.c.stream_key).add_cte(stored, ended)

    # Streams to which anyone may append

    def _store_shared(
        self, connection: sa.Connection, groups: Sequence[Append], gate: Gate, at: datetime | None
    ) -> dict[int, Place | Exception]:
        growth = _growth_rows(groups)
        values = {
            "now": at,
            "in_namespace": self._namespace,
            "by_writer": gate.writer_id,
            "batch_number": gate.batch_number,
            **_GROWTH.values(self.dialect, growth),
        }
        if self.dialect == "postgresql":
            arrivals = _EVENTS.values(self.dialect, _shared_arrivals(groups))
            found = list(connection.execute(self._shared_at_once, values | arrivals))
            if not found:
                return {id(group): self._stored_before(connection, group) for group in groups}
            grown = [row[1:] for row in found if row[1] is not None]
        else:
            grown = list(connection.execute(self._grown_in_steps, values))
        if any(finished for *_, finished in growth):
            connection.execute(self._finished, values)
        sizes = {(session_key, stream_id): count for session_key, stream_id, _, count, _ in growth}
        ends = {(row[0], row[1]): Place(row[2], row[3] - sizes[row[0], row[1]] + 1) for row in grown}
        places = _shared_places(groups, ends)
        if self.dialect != "postgresql":
            self._insert_events(connection, _placed_arrivals(groups, places), at)
        return places

    @cached_property
    def _grown_in_steps(self) -> Any:
        return self._grown(_GROWTH.relation(self.dialect))

    def _grown(self, growth: FromClause, *where: Any) -> Any:
        begun = self._new_stream(growth, claimed=False).where(sa.true(), *where)
        insert = self._insert(streams).from_select(
            _STREAM_COLUMNS, begun.order_by(growth.c.session_key, growth.c.stream_id)
        )
        more = insert.on_conflict_do_update(
            index_elements=[streams.c.session_key, streams.c.stream_id],
            index_where=open_streams.dialect_options[self.dialect]["where"],
            set_={
                "last_sequence": streams.c.last_sequence + insert.excluded.last_sequence,
                "updated_at": insert.excluded.updated_at,
            },
            where=streams.c.claimed.is_(sa.false()),
        )
        return more.returning(
            streams.c.session_key, streams.c.stream_id, streams.c.stream_key, streams.c.last_sequence
        )

    @cached_property
    def _finished(self) -> Any:
        growth = _GROWTH.relation(self.dialect)
        return (
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
    def _shared_at_once(self) -> Select[Any]:
        gate = self._gate()
        growth, arrival = _GROWTH.relation(self.dialect), _EVENTS.relation(self.dialect)
        grown = self._grown(growth, sa.exists(sa.select(gate.c.batch))).cte("grown")
        target = grown.join(
            growth, (growth.c.session_key == grown.c.session_key) & (growth.c.stream_id == grown.c.stream_id)
        )
        same = (arrival.c.session_key == grown.c.session_key) & (arrival.c.stream == grown.c.stream_id)
        place = grown.c.last_sequence - growth.c.count + arrival.c.position
        stored = self._event_insert(arrival, target, same, place, stream_key=grown.c.stream_key)
        return sa.select(gate.c.batch, grown).select_from(gate.outerjoin(grown, sa.true())).add_cte(stored)

    def _gate(self) -> CTE:
        insert = postgresql.insert(writers).values(
            writer_id=sa.bindparam("by_writer", type_=_TEXT), batch=sa.bindparam("batch_number", type_=_BIG), updated_at=now()
        )
        passed = insert.on_conflict_do_update(
            index_elements=[writers.c.writer_id],
            set_={"batch": insert.excluded.batch, "updated_at": insert.excluded.updated_at},
            where=writers.c.batch < insert.excluded.batch,
        )
        return passed.returning(writers.c.batch).cte("gate")

    def _stored_before(self, connection: sa.Connection, group: Append) -> Place | Exception:
        """Where a group is that an earlier sending of the same batch stored."""
        first = connection.execute(
            sa.select(events.c.stream_key, events.c.sequence)
            .join(
                streams,
                (streams.c.session_key == events.c.session_key) & (streams.c.stream_key == events.c.stream_key),
            )
            .where(
                events.c.session_key == group.session_key,
                streams.c.stream_id == group.stream_id,
                events.c.nonce == group.nonces[0],
            )
        ).first()
        if first is None:
            return OutcomeUnknown("The reply was lost, and the events are not there (any more).")
        return Place(first.stream_key, first.sequence)

    # Both

    def _new_stream(self, source: FromClause, *, claimed: bool) -> Select[Any]:
        last = source.c.last_sequence if claimed else source.c["count"]
        return sa.select(
            source.c.session_key,
            source.c.stream_key,
            source.c.stream_id,
            sa.bindparam("in_namespace", type_=_TEXT),
            sa.true() if claimed else sa.false(),
            source.c.finished if claimed else sa.false(),
            last,
            sa.literal_column("0", _BIG),
            now(),
            now(),
        )

    def _event_insert(
        self, arrival: FromClause, target: FromClause, same: Any, place: Any, stream_key: Any = None
    ) -> CTE:
        rows = sa.select(
            arrival.c.session_key,
            arrival.c.stream if stream_key is None else stream_key,
            place,
            arrival.c.nonce,
            arrival.c.final,
            arrival.c.size,
            now(),
            arrival.c.message,
        ).select_from(arrival.join(target, same))
        insert = self._insert(events).from_select(_EVENT_COLUMNS, rows)
        return insert.on_conflict_do_nothing().cte("stored")

    @cached_property
    def _one_event(self) -> Any:
        values = {name: sa.bindparam(name) for name in _EVENT_COLUMNS}
        values["created_at"] = sa.bindparam("now", type_=Timestamp())
        return self._insert(events).values(**values).on_conflict_do_nothing()

    def _insert_events(self, connection: sa.Connection, rows: Sequence[Sequence[Any]], at: datetime | None) -> None:
        if rows:
            names = ("session_key", "stream_key", "sequence", "nonce", "final", "size", "message")
            connection.execute(self._one_event, [dict(zip(names, row, strict=True), now=at) for row in rows])


def _claim_rows(groups: Sequence[Append]) -> list[list[Any]]:
    """One row a stream: whether it begins and ends in this batch."""
    rows: dict[str, list[Any]] = {}
    for group in groups:
        key, first = group.claim or Claim("", 0)
        last = first + len(group.events) - 1
        row = rows.setdefault(key, [group.session_key, group.stream_id, key, first == 1, False, 0])
        row[4] = group.events[-1].final
        row[5] = last
    return list(rows.values())


def _claimed_arrivals(group: Append) -> list[list[Any]]:
    key, first = group.claim or Claim("", 0)
    return [
        [group.session_key, key, first + index, nonce, event.final, size, event.message]
        for index, (event, nonce, size) in enumerate(zip(group.events, group.nonces, group.sizes, strict=True))
    ]


def _claimed_place(group: Append, known: set[str]) -> Place | Exception:
    key, first = group.claim or Claim("", 0)
    if key in known:
        return Place(key, first)
    return StreamClaimed(
        "The stream is open in other hands, or was deleted. Wait until it ends, or give the stream another id."
    )


def _growth_rows(groups: Sequence[Append]) -> list[list[Any]]:
    """One row a stream: by how many events it grows."""
    rows: dict[tuple[str, str], list[Any]] = {}
    for group in groups:
        name = (group.session_key, group.stream_id)
        row = rows.setdefault(name, [*name, new_stream_key(), 0, False])
        row[3] += len(group.events)
        row[4] = group.events[-1].final
    return [rows[name] for name in sorted(rows)]


def _shared_arrivals(groups: Sequence[Append]) -> list[list[Any]]:
    counts: dict[tuple[str, str], int] = {}
    rows: list[list[Any]] = []
    for group in groups:
        name = (group.session_key, group.stream_id)
        for event, nonce, size in zip(group.events, group.nonces, group.sizes, strict=True):
            counts[name] = counts.get(name, 0) + 1
            rows.append([*name, counts[name], nonce, event.final, size, event.message])
    return rows


def _shared_places(groups: Sequence[Append], ends: dict[tuple[str, str], Place]) -> dict[int, Place | Exception]:
    places: dict[int, Place | Exception] = {}
    for group in groups:
        name = (group.session_key, group.stream_id)
        place = ends.get(name)
        if place is None:
            places[id(group)] = StreamClaimed("The stream belongs to a writer of its own. Give it another id.")
            continue
        places[id(group)] = place
        ends[name] = Place(place.stream_key, place.first_sequence + len(group.events))
    return places


def _placed_arrivals(groups: Sequence[Append], places: dict[int, Place | Exception]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for group in groups:
        place = places[id(group)]
        if isinstance(place, Place):
            rows += _claimed_arrivals(_as_claimed(group, place))
    return rows


def _as_claimed(group: Append, place: Place) -> Append:
    return Append(group.session_key, group.stream_id, group.events, group.nonces, group.sizes, Claim(*place))
