"""How records are written where they are not, or where an older state of them is: for copies and imports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql import outlines
from mcp_persist_sa.backends.sql.arrivals import insert_for, put_events
from mcp_persist_sa.backends.sql.reading import SESSION, of_stream
from mcp_persist_sa.errors import RecordConflict
from mcp_persist_sa.models import Session
from mcp_persist_sa.records import EventRecord, Parcel
from mcp_persist_sa.replacing import News, Present, Sought
from mcp_persist_sa.schema import events, session_state, sessions, streams

_NOBODY = "-"
"""Who wrote a value that was copied: no call of a store will take it for its own."""

_IS_OPEN = streams.c.finished.is_(sa.false())
_OPEN = sa.select(streams.c.stream_id, streams.c.stream_key).where(
    streams.c.session_key == SESSION,
    streams.c.stream_id.in_(sa.bindparam("names", expanding=True, type_=sa.Text())),
    _IS_OPEN,
)
_FORGET = sa.delete(events).where(of_stream, events.c.sequence <= sa.bindparam("through", type_=sa.BigInteger()))


class Parcels:
    """The statements for one dialect and namespace."""

    def __init__(self, dialect: str, namespace: str) -> None:
        self._namespace = namespace
        self._insert = insert_for(dialect)
        self._put_session = self._upsert(sessions, but=("listener",))
        self._put_state = self._upsert(session_state, value=sa.bindparam("value", type_=sa.Text()))
        self._put_stream = self._upsert(streams)

    def _upsert(self, table: sa.Table, *, but: Sequence[str] = (), **values: Any) -> Any:
        names = [column.name for column in table.c if column.name not in but]
        insert = self._insert(table).values({**{name: sa.bindparam(name) for name in names}, **values})
        keys = [column.name for column in table.primary_key]
        return insert.on_conflict_do_update(
            index_elements=keys, set_={name: insert.excluded[name] for name in names if name not in keys}
        )

    def write(self, connection: sa.Connection, parcels: Sequence[Parcel]) -> list[RecordConflict | None]:
        """Write parcels, each as a whole or not at all."""
        outcomes: list[RecordConflict | None] = []
        for parcel in parcels:
            sought = Sought(parcel)
            try:
                news = News(sought, _present(connection, parcel.session_key, sought))
            except RecordConflict as conflict:
                outcomes.append(conflict)
            else:
                self._write(connection, parcel.session_key, news)
                outcomes.append(None)
        return outcomes

    def _write(self, connection: sa.Connection, session_key: str, news: News) -> None:
        whose = {"session_key": session_key, "namespace": self._namespace}
        if news.session is not None:
            values = {name: getattr(news.session, name) for name in Session.__slots__}
            connection.execute(self._put_session, [{**whose, **values}])
        if news.state:
            rows = [{**whose, "written_by": _NOBODY, **record._asdict()} for record in news.state]
            connection.execute(self._put_state, rows)
        if news.streams:
            connection.execute(self._put_stream, [{**whose, **record._asdict()} for record in news.streams])
        for record in news.streams:
            if record.stream_key in news.cut:
                through = {"for_session": session_key, "for_stream": record.stream_key}
                connection.execute(_FORGET, {**through, "through": record.purged_through})
        put_events(connection, [_row(session_key, event) for event in news.events])


def _present(connection: sa.Connection, session_key: str, sought: Sought) -> Present:
    """What is in the place of what is to be written."""
    present = Present()
    if sought.session is not None:
        present.session = next(iter(outlines.session_record(connection, session_key)), None)
    if sought.state:
        present.state = outlines.chosen_state(connection, session_key, sought.state)
    if sought.streams:
        present.streams = outlines.chosen_streams(connection, session_key, sought.streams)
    if sought.names:
        values = {"for_session": session_key, "names": sought.names}
        present.open_streams = [(name, key) for name, key in connection.execute(_OPEN, values)]
    present.events = {
        (stream_key, event.sequence): event
        for stream_key, first, last in sought.ranges
        for event in outlines.events_between(connection, session_key, stream_key, first - 1, last)
    }
    return present


def _row(session_key: str, event: EventRecord) -> tuple[Any, ...]:
    size = 0 if event.message is None else len(event.message.encode())
    place = (session_key, event.stream_key, event.sequence, event.nonce)
    return (*place, event.final, size, event.message, event.created_at)
