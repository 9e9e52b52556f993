"""All that belongs to a session is read exactly, and written elsewhere exactly, as often as one likes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mcp_persist_sa import Event, NewEvent, RecordConflict, Session, Store, UnknownEvent
from mcp_persist_sa.identity import new_foreign_stream_key, nonce_of_number
from mcp_persist_sa.records import EventRecord, Parcel, Record, StateRecord, StreamRecord
from tests.contract.support import Clock, fill, messages, take, to_the_end
from tests.databases import Database
from tests.moving.support import WILL, contents, fill_all_kinds, key_of, keys, outline

SECOND = timedelta(seconds=1)


async def _write(store: Store, records: list[Record], session_id: str = "session") -> RecordConflict | None:
    return (await store.backend.write_parcels([Parcel(key_of(store, session_id), tuple(records))]))[0]


async def test_what_was_deleted_comes_back_exactly(store: Store) -> None:
    await fill_all_kinds(store)
    before = await contents(store, "session")
    session = await store.sessions.get("session")
    events = await to_the_end(store, "session", stream_id="shared")
    await store.sessions.delete("session")
    assert await contents(store, "session") == []
    assert await _write(store, before) is None
    assert await contents(store, "session") == before
    assert await store.sessions.get("session") == session
    assert await to_the_end(store, "session", stream_id="shared") == events


async def test_what_is_written_twice_changes_nothing(store: Store) -> None:
    await fill_all_kinds(store)
    before = await contents(store, "session")
    assert await _write(store, before) is None
    assert await contents(store, "session") == before


async def test_records_say_what_there_is(store: Store) -> None:
    await fill_all_kinds(store)
    records = await outline(store, "session")
    assert [type(record) for record in records] == [Session] + [StateRecord] * 4 + [StreamRecord] * 8
    state = {record.key: record for record in records if isinstance(record, StateRecord)}
    assert [*state] == sorted(state)
    assert (state["null"].value, state["deleted"].value, state["text"].version) == ("null", None, 2)
    streams = [record for record in records if isinstance(record, StreamRecord)]
    assert [record.stream_key for record in streams] == sorted(record.stream_key for record in streams)
    called, finished = _named(streams, "called"), _named(streams, "finished")
    assert (called.claimed, called.finished, called.last_sequence, called.will) == (True, False, 5, WILL)
    assert called.node_id == store.node_id
    assert (finished.finished, finished.last_sequence, finished.will) == (True, 2, None)
    shared = _named(streams, "shared")
    assert (shared.claimed, shared.last_sequence, shared.purged_through) == (False, 4, 2)
    assert shared.purged_nonce is not None


def _named(streams: list[StreamRecord], name: str) -> StreamRecord:
    return next(record for record in streams if record.stream_id == name)


@pytest.mark.parametrize("size", [{"limit": 1}, {"limit": 3}, {"max_bytes": 1}, {"max_bytes": 30}])
async def test_pages_join_to_the_whole(store: Store, size: dict[str, int]) -> None:
    await fill_all_kinds(store)
    assert await contents(store, "session", **size) == await contents(store, "session")


async def test_a_page_of_events_is_bounded_in_bytes(store: Store) -> None:
    await store.append_many("session", "1", [NewEvent("x" * 100)] * 5)
    record = (await outline(store, "session"))[0]
    assert isinstance(record, StreamRecord)
    for max_bytes, count in ((1, 1), (100, 1), (250, 2), (500, 5)):
        page = await store.backend.read_events(
            key_of(store, "session"), record.stream_key, after=0, limit=9, max_bytes=max_bytes
        )
        assert [event.sequence for event in page] == [*range(1, count + 1)]


async def test_keys_are_those_of_the_namespace(database: Database) -> None:
    store = await database.open()
    assert await keys(store) == set()
    await store.sessions.create("recorded")
    await store.state("handle").set("a", 1)
    await store.append("unrecorded", "1", "x")
    assert await keys(store) == {key_of(store, name) for name in ("recorded", "handle", "unrecorded")}
    if database.kind != "sqlite-memory":
        assert await keys(await database.open(namespace="other")) == set()


async def test_what_has_expired_is_read_while_it_is_kept(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await fill_all_kinds(store)
    before = await contents(store, "session")
    clock.advance(days=30)
    assert await contents(store, "session") == before


async def test_a_later_state_takes_the_place_of_an_older_one(store: Store) -> None:
    await fill_all_kinds(store)
    older = await contents(store, "session")
    await fill(store, "session", "shared", 3)
    await store.append("session", "again", "end", final=True)
    await store.append("session", "again", "another")
    await store.state("session").set("null", 1)
    await store.sessions.update("session", metadata={"n": 2})
    (last,) = [record for record in older if isinstance(record, EventRecord) and record.message == '"é"']
    await store.delete_before("session", f"{last.stream_key}.{last.sequence}.{last.nonce}")
    await store.sessions.close("session")
    later = await contents(store, "session")
    await store.sessions.delete("session")
    assert await _write(store, older) is None
    assert await _write(store, later) is None
    assert await contents(store, "session") == later


async def test_events_that_were_removed_are_removed_there_too(store: Store) -> None:
    ids = await fill(store, "session", "1", 5)
    older = await contents(store, "session")
    await store.delete_before("session", ids[3])
    later = await contents(store, "session")
    await store.sessions.delete("session")
    assert await _write(store, older) is None
    assert await _write(store, later[:1]) is None
    assert messages(await store.read("session", stream_id="1")) == ["4", "5"]
    assert await contents(store, "session") == later


async def test_a_client_resumes_where_a_part_was_written(store: Store) -> None:
    ids = await fill(store, "session", "1", 5)
    stream, *events = await contents(store, "session")
    assert isinstance(stream, StreamRecord)
    await store.sessions.delete("session")
    assert await _write(store, [stream._replace(last_sequence=3), *events[:3]]) is None
    assert messages(await store.read("session", after=ids[1])) == ["3"]
    assert await outline(store, "session") == [stream._replace(last_sequence=3)]
    assert await _write(store, [stream, *events[3:]]) is None
    assert messages(await store.read("session", after=ids[1])) == ["3", "4", "5"]
    next_id = await store.append("session", "1", "6")
    assert next_id.split(".")[:2] == [stream.stream_key, "6"]


def _changed(record: Record, **values: Any) -> Record:
    return replace(record, **values) if isinstance(record, Session) else record._replace(**values)


CONTRADICTIONS: list[tuple[type[Record], str, Any]] = [
    (Session, "created_at", -SECOND),
    (Session, "last_seen_at", -SECOND),
    (Session, "closed_at", None),
    (StateRecord, "value", "2"),
    (StateRecord, "version", 1),
    (StreamRecord, "stream_id", "other"),
    (StreamRecord, "claimed", True),
    (StreamRecord, "created_at", SECOND),
    (StreamRecord, "purged_through", 0),
    (EventRecord, "nonce", "00000000"),
    (EventRecord, "message", "other"),
    (EventRecord, "final", True),
    (EventRecord, "created_at", SECOND),
    (EventRecord, "sequence", 1),
]


@pytest.mark.parametrize(("kind", "field", "value"), CONTRADICTIONS)
async def test_what_contradicts_is_refused_as_a_whole(store: Store, kind: type[Record], field: str, value: Any) -> None:
    await store.sessions.create("session")
    await store.state("session").set("a", 1)
    await store.state("session").set("a", 3)
    ids = await fill(store, "session", "1", 3)
    await store.delete_before("session", ids[1])
    await store.sessions.close("session")
    before = await contents(store, "session")
    index = next(n for n, record in enumerate(before) if isinstance(record, kind))
    old = before[index]
    changed = _changed(old, **{field: getattr(old, field) + value if isinstance(value, timedelta) else value})
    new = StateRecord("another", "1", 1, (await store.sessions.get("session")).created_at)
    wrong = [*before[:index], changed, *before[index + 1 :], new]
    refused, accepted = await store.backend.write_parcels(
        [Parcel(key_of(store, "session"), tuple(wrong)), Parcel(key_of(store, "other"), (new,))]
    )
    assert isinstance(refused, RecordConflict)
    assert accepted is None
    assert await contents(store, "session") == before
    assert await contents(store, "other") == [new]


async def test_a_second_open_stream_of_a_name_is_refused(store: Store) -> None:
    await store.append("session", "1", "first")
    first = await contents(store, "session")
    await store.sessions.delete("session")
    await store.append("session", "1", "second")
    second = await contents(store, "session")
    assert isinstance(await _write(store, first), RecordConflict)
    assert await contents(store, "session") == second
    (stream, event) = second
    assert isinstance(stream, StreamRecord)
    # Together with the news that the other one has ended it is written.
    assert await _write(store, [*first, stream._replace(finished=True), event]) is None
    page = await store.read("session", stream_id="1")
    assert messages(page) == ["first"]


async def test_an_event_of_another_kind_of_store_is_found_by_its_number(store: Store) -> None:
    await fill(store, "session", "1", 3)
    stream, *events = await contents(store, "session")
    await store.sessions.delete("session")
    key = new_foreign_stream_key()
    foreign = [_changed(stream, stream_key=key)]
    foreign += [
        event._replace(stream_key=key, nonce=nonce_of_number(7 * event.sequence))
        for event in events
        if isinstance(event, EventRecord)
    ]
    assert await _write(store, foreign) is None
    assert messages(await store.read("session", after="7")) == ["2", "3"]
    assert messages(await store.read_before("session", "14")) == ["1"]
    tail = store.tail("session", "1", after="14")
    assert [item.message for item in await take(tail, 1) if isinstance(item, Event)] == ["3"]
    await tail.aclose()
    for session_id, event_id in (("session", "8"), ("other", "7"), ("session", "0")):
        with pytest.raises(UnknownEvent):
            await store.read(session_id, after=event_id)
