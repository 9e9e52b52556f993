"""Isolation: events reach their session alone, ids cannot be forged, and none is ever given twice."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import asyncpg
import pytest

from mcp_persist_sa import HistoryLost, InvalidInput, Page, PersistError, Store, StreamNotFound, UnknownEvent
from tests.contract.beside import RedisBackup, count
from tests.contract.support import Clock, execute, fill, messages, rest
from tests.databases import Database

STREAM_IDS = [
    "1",
    "",
    " ",
    "_GET_stream",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "'\"\\",
    "\\u0000",
    "\\",
    '"',
    "'; DROP TABLE mcp_streams; --",
    "%",
    "_",
    "\n\r\t\x7f",
    "äß漢字",
    "🙂",
    "\u2028\ufeff",
    "null",
    "x" * 1000,
    "é",
    "e\u0301",
    "A",
    "a",
]


async def test_a_stream_id_is_any_text(store: Store) -> None:
    for number, name in enumerate(STREAM_IDS):
        await store.append("session", name, str(number))
    for number, name in enumerate(STREAM_IDS):
        assert (name, messages(await store.read("session", stream_id=name))) == (name, [str(number)])
        assert (await store.stream("session", name)).stream_id == name
    assert {info.stream_id async for info in store.streams("session")} == set(STREAM_IDS)


async def test_a_claimed_stream_id_is_any_text(store: Store) -> None:
    receipts = [store.claim("session", name).append(str(n), final=True) for n, name in enumerate(STREAM_IDS)]
    await asyncio.gather(*(receipt.durable() for receipt in receipts))
    for number, name in enumerate(STREAM_IDS):
        assert [item.message for item in await rest(store.tail("session", stream_id=name))] == [str(number)]
    assert {info.stream_id async for info in store.streams("session")} == set(STREAM_IDS)


async def test_a_stream_id_that_is_too_long_or_no_text_is_refused(store: Store) -> None:
    refused: list[Any] = ["x" * 1025, "ä" * 500, 1, b"1"]
    for stream_id in refused:
        with pytest.raises(InvalidInput, match="stream id"):
            await store.append("session", stream_id, "x")
        with pytest.raises(InvalidInput, match="stream id"):
            store.claim("session", stream_id)
        with pytest.raises(InvalidInput, match="stream id"):
            await store.read("session", stream_id=stream_id)
    assert [info async for info in store.streams("session")] == []


async def test_the_same_stream_id_in_two_sessions_is_two_streams(store: Store) -> None:
    await asyncio.gather(*(store.append(f"s{n % 5}", "1", f"{n % 5}") for n in range(50)))
    for n in range(5):
        assert messages(await store.read(f"s{n}", stream_id="1")) == [str(n)] * 10


async def test_the_event_of_another_session_is_as_unknown_as_one_that_never_was(store: Store) -> None:
    mine = await fill(store, "session", "1", 3)
    theirs = await fill(store, "other", "1", 3)
    calls: list[Callable[[str], Awaitable[object]]] = [
        lambda event_id: store.read("session", after=event_id),
        lambda event_id: store.read_before("session", event_id),
        lambda event_id: store.delete_before("session", event_id),
        lambda event_id: rest(store.tail("session", after=event_id)),
    ]
    for call in calls:
        answers: set[str] = set()
        for event_id in (theirs[0], theirs[2], f"{'A' * 16}.1.{'A' * 8}", "1", ""):
            with pytest.raises(UnknownEvent) as caught:
                await call(event_id)
            answers.add(str(caught.value))
        assert len(answers) == 1
    assert messages(await store.read("other", after=theirs[0])) == ["2", "3"]
    assert messages(await store.read("session", after=mine[0])) == ["2", "3"]


async def test_a_malformed_id_is_unknown(store: Store) -> None:
    key, _, nonce = (await fill(store, "session", "1", 3))[1].split(".")
    malformed: list[Any] = [
        "",
        "0",
        "2",
        key,
        f"{key}.2",
        f"{key}.2.",
        f"{key}..{nonce}",
        f".2.{nonce}",
        f"{key}.02.{nonce}",
        f"{key}.+2.{nonce}",
        f"{key}.-2.{nonce}",
        f"{key}.2.0.{nonce}",
        f"{key}.2e0.{nonce}",
        f"{key}.\u0662.{nonce}",
        f"{key}.2.{nonce}\n",
        f" {key}.2.{nonce}",
        f"{key}.2.{nonce}x",
        f"{key}.{'9' * 19}.{nonce}",
        f"{key}.{'9' * 5000}.{nonce}",
        f"{key}.0.{nonce}",
        f"{key}.2.\0{nonce[1:]}",
        f"{key}.2.'{nonce[1:]}",
        "\ud800",
        "x" * 1_000_000,
    ]
    for event_id in malformed:
        with pytest.raises(UnknownEvent):
            await store.read("session", after=event_id)
        with pytest.raises(UnknownEvent):
            await store.read_before("session", event_id)
        with pytest.raises(UnknownEvent):
            await store.delete_before("session", event_id)


def _flipped(text: str, place: int) -> str:
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


async def test_no_part_of_an_id_can_be_forged(store: Store) -> None:
    ids = await fill(store, "session", "1", 5)
    key, number, nonce = ids[2].split(".")
    forged = [
        *(f"{_flipped(key, place)}.{number}.{nonce}" for place in range(16)),
        *(f"{key}.{number}.{_flipped(nonce, place)}" for place in range(8)),
        *(f"{key}.{other}.{nonce}" for other in (1, 2, 4, 5, 6, 999_999_999_999_999_999)),
    ]
    calls: list[Callable[[str], Awaitable[object]]] = [
        lambda event_id: store.read("session", after=event_id),
        lambda event_id: store.read_before("session", event_id),
        lambda event_id: store.delete_before("session", event_id),
        lambda event_id: rest(store.tail("session", after=event_id)),
    ]
    for event_id in forged:
        for call in calls:
            with pytest.raises((UnknownEvent, HistoryLost)):
                await call(event_id)
    assert (await store.stream("session", "1")).count == 5


async def test_event_ids_cannot_be_guessed_from_each_other(store: Store) -> None:
    ids = [event_id for n in range(20) for event_id in await fill(store, "session", str(n), 5)]
    parts = [event_id.split(".") for event_id in ids]
    assert len({nonce for _, _, nonce in parts}) == 100
    assert len({key for key, _, _ in parts}) == 20
    assert len(set(ids)) == 100


async def test_event_ids_are_safe_in_a_header_and_in_an_sse_line(store: Store) -> None:
    for name in STREAM_IDS:
        event_id = await store.append("session", name, "x")
        assert event_id.isascii()
        assert event_id.isprintable()
        assert not set(event_id) & set(" \r\n:,;")
        assert len(event_id) < 64


# Namespaces


async def _everything(store: Store) -> dict[str, Any]:
    return {
        "sessions": [(s.session_id, s.owner) async for s in store.sessions.all()],
        "count": await store.sessions.count(),
        "owned": await store.sessions.count(owner="alice"),
        "state": {key: await store.state("session").get(key) for key in await store.state("session").keys()},
        "streams": {info.stream_id: info.count async for info in store.streams("session")},
    }


async def _settle_in(store: Store, name: str) -> str:
    await store.sessions.create("session", owner="alice", metadata={"in": name})
    await store.state("session").set("key", name)
    await store.state("session").set(f"key {name}", 1)
    return (await fill(store, "session", "1", len(name)))[0]


NAMESPACES = ["", "a", "bb", "A", " ", "ä漢🙂", "%", "session"]


async def test_namespaces_see_nothing_of_each_other(shared_database: Database) -> None:
    stores = {name: await shared_database.open(namespace=name, pool_size=2) for name in NAMESPACES}
    for name, store in stores.items():
        await _settle_in(store, f"of {name}")
    for name, store in stores.items():
        assert (await store.sessions.get("session")).metadata == {"in": f"of {name}"}
        assert await _everything(store) == {
            "sessions": [("session", "alice")],
            "count": 1,
            "owned": 1,
            "state": {"key": f"of {name}", f"key of {name}": 1},
            "streams": {"1": len(f"of {name}")},
        }


async def test_an_event_id_of_another_namespace_is_unknown(shared_database: Database) -> None:
    one, other = await shared_database.open(namespace="one"), await shared_database.open(namespace="other")
    ids = [await _settle_in(store, "name") for store in (one, other)]
    for event_id, store in zip(reversed(ids), (one, other), strict=True):
        with pytest.raises(UnknownEvent):
            await store.read("session", after=event_id)
        with pytest.raises(UnknownEvent):
            await store.delete_before("session", event_id)


async def test_nothing_is_removed_in_another_namespace(shared_database: Database, clock: Clock) -> None:
    one = await shared_database.open(namespace="one", clock=clock)
    other = await shared_database.open(namespace="other", clock=clock)
    await _settle_in(one, "one")
    await _settle_in(other, "other")
    before = await _everything(other)
    assert tuple(await one.sessions.delete_owner("alice")) == (1, 1, 3, 2)
    await _settle_in(one, "one")
    assert tuple(await one.delete_events("session")) == (0, 1, 3, 0)
    assert await one.state("session").clear() == 2
    assert await one.sessions.close("session")
    assert tuple(await one.sessions.delete("session")) == (1, 0, 0, 0)
    assert await _everything(other) == before


async def test_a_purge_stays_in_its_namespace(shared_database: Database, clock: Clock) -> None:
    limits: dict[str, Any] = {"session_ttl": 60, "event_ttl": 60, "state_ttl": 60, "clock": clock}
    one = await shared_database.open(namespace="one", max_events_per_stream=1, **limits)
    other = await shared_database.open(namespace="other", **limits)
    for store in (one, other):
        await _settle_in(store, "name")
        await fill(store, "handle", "1", 2)
        await store.state("handle").set("key", 1)
    clock.advance(seconds=61)
    removed = await one.purge()
    # Here a session, its stream with 4 events and 2 values; the events of a handle, and its value.
    assert (removed.sessions, removed.streams, removed.state) == (1, 1, 3)
    # What is left is the other's, and of this one the empty stream of a handle, whose ids are still known.
    left = {what: await count(shared_database, what) for what in ("sessions", "state", "streams", "events")}
    assert left == {"sessions": 1, "state": 3, "streams": 3, "events": 6}
    assert tuple(await other.purge()) == (1, 1, 6, 3)


async def test_the_cap_on_sessions_is_that_of_the_namespace(shared_database: Database) -> None:
    one = await shared_database.open(namespace="one", max_sessions=2)
    other = await shared_database.open(namespace="other", max_sessions=2)
    for store in (one, other):
        await store.sessions.create()
        await store.sessions.create()
    assert (await one.sessions.count(), await other.sessions.count()) == (2, 2)


async def test_a_namespace_and_a_session_id_do_not_run_into_each_other(shared_database: Database) -> None:
    one, other = await shared_database.open(namespace="a"), await shared_database.open(namespace="ab")
    await one.append("bc", "1", "of one")
    with pytest.raises(StreamNotFound):
        await other.read("c", stream_id="1")


# A database that was put back


class Backup:
    """A copy of all tables, taken at one moment and put back later."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        self._copy = sqlite3.connect(":memory:")

    def _file(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._database.dsn.removeprefix("sqlite:///")))

    async def take(self) -> None:
        if not self._database.is_postgres:
            with self._file() as file:
                file.backup(self._copy)
            return
        for table in ("mcp_streams", "mcp_events", "mcp_writers"):
            self._rows[table] = await execute(self._database, f"SELECT * FROM {table}")

    async def put_back(self) -> None:
        if not self._database.is_postgres:
            with self._file() as file, closing(self._copy) as copy:
                copy.backup(file)
            return
        connection: Any = await asyncpg.connect(self._database.dsn)
        try:
            async with connection.transaction():
                for table, rows in self._rows.items():
                    await connection.execute(f"DELETE FROM {table}")
                    await connection.copy_records_to_table(table, records=rows)
        finally:
            await connection.close()


def _backup(database: Database) -> Backup | RedisBackup:
    return RedisBackup(database) if database.is_redis else Backup(database)


async def _restored(database: Database, begin: int, lose: int) -> tuple[list[str], Store]:
    """A stream of `begin` events, put back after `lose` more had been given to a client."""
    backup = _backup(database)
    store = await database.open()
    ids = await fill(store, "session", "1", begin)
    await store.close()
    await backup.take()
    store = await database.open()
    ids += await fill(store, "session", "1", lose)
    await store.close()
    await backup.put_back()
    return ids, await database.open()


async def test_an_event_that_a_restore_took_back_is_lost_history(shared_database: Database) -> None:
    ids, store = await _restored(shared_database, 2, 2)
    assert (await store.stream("session", "1")).last_sequence == 2
    for lost in ids[2:]:
        with pytest.raises(HistoryLost):
            await store.read("session", after=lost)
        with pytest.raises(HistoryLost):
            await rest(store.tail("session", after=lost))
    assert (await store.read("session", after=ids[1])).items == ()


@pytest.mark.parametrize("new", [1, 2, 5])
async def test_after_a_restore_no_id_is_given_again(shared_database: Database, new: int) -> None:
    ids, store = await _restored(shared_database, 2, 2)
    given = await fill(store, "session", "1", new)
    assert not set(ids) & set(given)
    # The numbers are given again, and still the client that saw other events under them is told.
    assert [event_id.split(".")[1] for event_id in given][:2] == [event_id.split(".")[1] for event_id in ids[2:]][:new]
    for lost in ids[2:]:
        with pytest.raises(HistoryLost):
            await store.read("session", after=lost)
    page: Page = await store.read("session", after=ids[1])
    assert [event.event_id for event in page.events] == given


async def test_a_restored_stream_whose_new_events_were_purged_is_still_told_apart(shared_database: Database) -> None:
    ids, store = await _restored(shared_database, 2, 2)
    given = await fill(store, "session", "1", 4)
    await store.delete_before("session", given[2])
    for lost in ids[2:]:
        with pytest.raises(HistoryLost):
            await store.read("session", after=lost)
    assert messages(await store.read("session", after=given[1])) == ["3", "4"]


async def test_a_stream_that_a_restore_took_back_whole_is_unknown(shared_database: Database) -> None:
    backup = _backup(shared_database)
    await (await shared_database.open()).close()
    await backup.take()
    store = await shared_database.open()
    ids = await fill(store, "session", "1", 2)
    await store.close()
    await backup.put_back()
    store = await shared_database.open()
    await fill(store, "session", "1", 5)
    for lost in ids:
        with pytest.raises(UnknownEvent):
            await store.read("session", after=lost)


async def test_an_append_that_was_rolled_back_leaves_no_id_behind(sql_database: Database) -> None:
    store = await sql_database.open()
    ids = await fill(store, "session", "1", 2)
    # The database refuses the second event of a group, so that the whole group is rolled back.
    if sql_database.is_postgres:
        await execute(sql_database, "ALTER TABLE mcp_events ADD CONSTRAINT refuse CHECK (message <> 'refuse')")
    else:
        await execute(
            sql_database,
            "CREATE TRIGGER refuse BEFORE INSERT ON mcp_events WHEN NEW.message = 'refuse' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END",
        )
    calls = [store.append("session", "1", message) for message in ("a", "refuse", "b")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, PersistError) for result in results] == [False, True, False]
    page = await store.read("session", after=ids[1])
    assert [(event.sequence, event.message) for event in page.events] == [(3, "a"), (4, "b")]
    assert [event.event_id for event in page.events] == [results[0], results[2]]
