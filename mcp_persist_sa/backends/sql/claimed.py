"""How events are stored in a stream whose one writer has numbered them itself.

The stream's row is written when it is opened, with its first events, and when it ends; in between, events are inserted
and nothing else is touched. All of it can be repeated: the numbers are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import cache, cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import CTE, FromClause

from mcp_persist_sa.backends.sql.arrivals import (
    NUMBERED,
    STREAM_COLUMNS,
    Results,
    arrivals_at,
    insert_for,
    new_stream,
    put_events,
    stored,
)
from mcp_persist_sa.backends.sql.hot import Hot
from mcp_persist_sa.backends.sql.memory import Memory
from mcp_persist_sa.backends.sql.rows import BIG, FLAG, TEXT, Rows, few
from mcp_persist_sa.batches import Append
from mcp_persist_sa.refusals import claim_refused
from mcp_persist_sa.schema import streams
from mcp_persist_sa.sqltypes import now

_CLAIMS = Rows(
    "claims",
    (
        ("session_key", TEXT),
        ("stream_id", TEXT),
        ("stream_key", TEXT),
        ("opening", FLAG),
        ("finished", FLAG),
        ("last_sequence", BIG),
        ("node_id", TEXT),
        ("will", TEXT),
    ),
)


_KEPT = Rows("kept", (("session_key", TEXT), ("stream_key", TEXT), ("node_id", TEXT)))

_STREAM, _OPENING, _FINISHED, _LAST = 2, 3, 4, 5

_POSTGRES = "postgresql"

Arrivals = Sequence[tuple[Any, ...]]


class ClaimedAppends:
    """The statements for one dialect."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def store(
        self, connection: sa.Connection, groups: Sequence[Append], common: dict[str, Any], memory: Memory
    ) -> Results:
        """Store groups of events; those of a stream that is not theirs are refused."""
        places = [group.place for group in groups if group.place is not None]
        arrivals = arrivals_at(groups, places)
        if self._dialect == _POSTGRES:
            known = self._at_once(connection, groups, arrivals, common)
        else:
            known = self._in_steps(connection, groups, arrivals, common, memory)
        return [place if place.stream_key in known else claim_refused() for place in places]

    def _at_once(
        self, connection: sa.Connection, groups: Sequence[Append], arrivals: Arrivals, common: dict[str, Any]
    ) -> Set[str]:
        values = common | NUMBERED.values(self._dialect, [row[1:] for row in arrivals])
        if not any(_begins_or_ends(group) for group in groups):
            kept = _kept_rows(groups)
            return _keys(_more(few(len(kept))).rows(connection, values | _KEPT.values(self._dialect, kept)))
        rows = _claim_rows(groups)
        values |= _CLAIMS.values(self._dialect, rows)
        statement = _all(few(len(rows)))
        known = _keys(statement.rows(connection, values))
        if len(known) < len(rows):
            # An earlier sending, on whose end the statement had to wait, is seen by the next one only.
            known |= _keys(statement.rows(connection, values))
        return known

    def _in_steps(
        self,
        connection: sa.Connection,
        groups: Sequence[Append],
        arrivals: Arrivals,
        common: dict[str, Any],
        memory: Memory,
    ) -> Set[str]:
        known: Set[str] = {claim.stream_key for group in groups if (claim := group.claim)}
        if any(_begins_or_ends(group) for group in groups) or not memory.holds(known):
            known = self._kept_in_steps(connection, _claim_rows(groups), common, memory)
            arrivals = [row for row in arrivals if row[1] in known]
        put_events(connection, [(*row, common["now"]) for row in arrivals])
        return known

    def _kept_in_steps(
        self, connection: sa.Connection, rows: list[list[Any]], common: dict[str, Any], memory: Memory
    ) -> set[str]:
        """Open and end streams, and tell which there are then."""
        values = common | _CLAIMS.values(self._dialect, rows)
        opening = {row[_STREAM] for row in rows if row[_OPENING]}
        if opening:
            self._open.rows(connection, values)
        known = _keys(self._known.rows(connection, values))
        if any(row[_FINISHED] and not row[_OPENING] for row in rows):
            self._end.rows(connection, values)
        # What was opened is not committed yet.
        memory.learn(known - opening)
        return known

    @cached_property
    def _claims(self) -> FromClause:
        return _CLAIMS.relation(self._dialect)

    @cached_property
    def _open(self) -> Hot:
        return Hot(_opening(self._claims, self._dialect))

    @cached_property
    def _known(self) -> Hot:
        return Hot(_knowing(self._claims))

    @cached_property
    def _end(self) -> Hot:
        return Hot(_ending(self._claims))


@cache
def _all(most: int | None) -> Hot:
    """All at once on Postgres, for at most so many streams."""
    claim = _CLAIMS.relation(_POSTGRES, most)
    opened = _opening(claim, _POSTGRES).returning(streams.c.stream_key, streams.c.session_key).cte("opened")
    known = sa.union(sa.select(opened), sa.select(_locked(claim))).cte("known")
    return Hot(sa.select(known.c.stream_key).add_cte(_stored(known), _ending(claim).cte("ended")))


@cache
def _more(most: int | None) -> Hot:
    """The same for streams that go on: what is in between neither opens nor ends any."""
    known = _locked(_KEPT.relation(_POSTGRES, most))
    return Hot(sa.select(known.c.stream_key).add_cte(_stored(known)))


def _stored(known: CTE) -> CTE:
    arrival = NUMBERED.relation(_POSTGRES)
    source = arrival.join(known, known.c.stream_key == arrival.c.stream)
    place = {"session_key": known.c.session_key, "stream_key": known.c.stream_key}
    return stored(arrival, source, **place, sequence=arrival.c.position)


def _opening(claim: FromClause, dialect: str) -> Any:
    rival = streams.alias("rival")
    taken = sa.exists().where(
        rival.c.session_key == claim.c.session_key,
        rival.c.stream_id == claim.c.stream_id,
        rival.c.finished.is_(sa.false()),
    )
    opening = new_stream(
        claim,
        claimed=sa.true(),
        finished=claim.c.finished,
        last_sequence=claim.c.last_sequence,
        node_id=claim.c.node_id,
        will=claim.c.will,
    ).where(claim.c.opening, ~taken)
    return insert_for(dialect)(streams).from_select(STREAM_COLUMNS, opening).on_conflict_do_nothing()


def _ending(claim: FromClause) -> Any:
    return (
        sa.update(streams)
        .values(finished=sa.true(), last_sequence=claim.c.last_sequence, updated_at=now())
        .where(
            streams.c.session_key == claim.c.session_key,
            streams.c.stream_key == claim.c.stream_key,
            claim.c.finished,
            streams.c.finished.is_(sa.false()),
            streams.c.node_id.is_not_distinct_from(claim.c.node_id),
        )
    )


def _knowing(claim: FromClause) -> Any:
    same = (streams.c.session_key == claim.c.session_key) & (streams.c.stream_key == claim.c.stream_key)
    # A node that was taken for dead has lost its streams.
    kept = streams.c.node_id.is_not_distinct_from(claim.c.node_id)
    return sa.select(streams.c.stream_key, streams.c.session_key).select_from(streams.join(claim, same & kept))


def _locked(claim: FromClause) -> CTE:
    """Or a session that is deleted at this moment would leave events without a stream."""
    return _knowing(claim).with_for_update(key_share=True, of=streams).cte("present")


def _keys(rows: list[Any]) -> set[str]:
    return {row[0] for row in rows}


def _begins_or_ends(group: Append) -> bool:
    return group.opening or group.events[-1].final


def _kept_rows(groups: Sequence[Append]) -> list[tuple[Any, ...]]:
    """One row a stream."""
    rows = {claim.stream_key: (group.session_key, *claim[:2]) for group in groups if (claim := group.claim)}
    return [*rows.values()]


def _claim_rows(groups: Sequence[Append]) -> list[list[Any]]:
    """One row a stream: whether it begins and ends in this batch."""
    rows: dict[str, list[Any]] = {}
    for group in groups:
        assert group.claim is not None
        assert group.place is not None
        stream_key, node_id, will = group.claim
        new = [group.session_key, group.stream_id, stream_key, group.opening, False, 0, node_id, will]
        row = rows.setdefault(stream_key, new)
        row[_FINISHED] = group.events[-1].final
        row[_LAST] = group.place.first_sequence + len(group.events) - 1
    return list(rows.values())
