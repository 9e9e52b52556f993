"""How records are written where they are not, or where an older state of them is: for copies and imports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql import outlines
from mcp_persist_sa.backends.sql.arrivals import insert_for
from mcp_persist_sa.backends.sql.hot import Hot
from mcp_persist_sa.backends.sql.reading import SESSION, of_stream
from mcp_persist_sa.errors import RecordConflict
from mcp_persist_sa.models import Session
from mcp_persist_sa.records import (
    EventRecord,
    Parcel,
    StateRecord,
    StreamRecord,
    refuse_removed,
    refuse_second_open,
    replacement,
)
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
_EVENT = ("session_key", "stream_key", "sequence", "nonce", "final", "size", "created_at", "message")


class Parcels:
    """The statements for one dialect and namespace."""

    def __init__(self, dialect: str, namespace: str) -> None:
        self._namespace = namespace
        self._insert = insert_for(dialect)
        self._put_session = self._upsert(sessions, but=("listener",))
        self._put_state = self._upsert(session_state, value=sa.bindparam("value", type_=sa.Text()))
        self._put_stream = self._upsert(streams)
        self._put_events = Hot(
            self._insert(events).values({name: sa.bindparam(name) for name in _EVENT}).on_conflict_do_nothing()
        )

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
            try:
                news = _News(connection, parcel)
            except RecordConflict as conflict:
                outcomes.append(conflict)
            else:
                self._write(connection, parcel.session_key, news)
                outcomes.append(None)
        return outcomes

    def _write(self, connection: sa.Connection, session_key: str, news: _News) -> None:
        whose = {"session_key": session_key, "namespace": self._namespace}
        if news.sessions:
            fields = Session.__slots__
            rows = [{**whose, **{name: getattr(session, name) for name in fields}} for session in news.sessions]
            connection.execute(self._put_session, rows)
        if news.state:
            rows = [{**whose, "written_by": _NOBODY, **record._asdict()} for record in news.state]
            connection.execute(self._put_state, rows)
        if news.streams:
            # Those that have ended first: they make room for another of their name.
            ordered = sorted(news.streams, key=lambda record: not record.finished)
            connection.execute(self._put_stream, [{**whose, **record._asdict()} for record in ordered])
        for record in news.streams:
            if record.stream_key in news.cut:
                through = {"for_session": session_key, "for_stream": record.stream_key}
                connection.execute(_FORGET, {**through, "through": record.purged_through})
        if news.events:
            self._put_events.for_each(connection, _EVENT, [_row(session_key, event) for event in news.events], {})


class _News:
    """What of a parcel is not there yet.

    Raises:
        RecordConflict: It contradicts what is there.
    """

    def __init__(self, connection: sa.Connection, parcel: Parcel) -> None:
        self._connection = connection
        self._session_key = parcel.session_key
        self.sessions = self._new_sessions([record for record in parcel.records if isinstance(record, Session)])
        self.state = self._new_state([record for record in parcel.records if isinstance(record, StateRecord)])
        given = {record.stream_key: record for record in parcel.records if isinstance(record, StreamRecord)}
        self._old = outlines.chosen_streams(connection, self._session_key, given) if given else {}
        self.streams = [
            new for key, record in given.items() if (new := replacement(self._old.get(key), record)) is not None
        ]
        self._check_names()
        self.cut = {new.stream_key for new in self.streams if self._has_removed(new)}
        self.events = self._new_events([record for record in parcel.records if isinstance(record, EventRecord)])

    def _new_sessions(self, given: Sequence[Session]) -> list[Session]:
        found = outlines.session_record(self._connection, self._session_key) if given else []
        old = found[0] if found else None
        return [new for record in given if (new := replacement(old, record)) is not None]

    def _new_state(self, given: Sequence[StateRecord]) -> list[StateRecord]:
        if not given:
            return []
        old = outlines.chosen_state(self._connection, self._session_key, [record.key for record in given])
        return [new for record in given if (new := replacement(old.get(record.key), record)) is not None]

    def _check_names(self) -> None:
        """Refuse a second open stream of a name."""
        news = {new.stream_key: new for new in self.streams}
        names = {new.stream_id for new in self.streams if not new.finished}
        values = {"for_session": self._session_key, "names": list(names)}
        opened = [tuple(row) for row in self._connection.execute(_OPEN, values)] if names else []
        kept = [name for name, key in opened if key not in news]
        both = kept + [new.stream_id for new in self.streams if not new.finished]
        for name in names:
            if both.count(name) > 1:
                raise refuse_second_open(name)

    def _has_removed(self, new: StreamRecord) -> bool:
        old = self._old.get(new.stream_key)
        return old is not None and old.purged_through < new.purged_through

    def _new_events(self, given: Sequence[EventRecord]) -> list[EventRecord]:
        purged = {key: old.purged_through for key, old in self._old.items()}
        purged |= {new.stream_key: new.purged_through for new in self.streams}
        by_stream: dict[str, list[EventRecord]] = {}
        for event in given:
            if event.sequence <= purged[event.stream_key]:
                raise refuse_removed(event)
            by_stream.setdefault(event.stream_key, []).append(event)
        news: list[EventRecord] = []
        for key, some in by_stream.items():
            numbers = [event.sequence for event in some]
            stored = outlines.events_between(self._connection, self._session_key, key, min(numbers) - 1, max(numbers))
            old = {event.sequence: event for event in stored}
            news += [event for event in some if replacement(old.get(event.sequence), event) is not None]
        return news


def _row(session_key: str, event: EventRecord) -> list[Any]:
    size = 0 if event.message is None else len(event.message.encode())
    return [
        session_key,
        event.stream_key,
        event.sequence,
        event.nonce,
        event.final,
        size,
        event.created_at,
        event.message,
    ]
