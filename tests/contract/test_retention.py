"""Retention: what is too old or too much is not served, is removed by a purge, and is missed by nobody in silence."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from mcp_persist_sa import Gap, HistoryLost, NewEvent, Purged, Store, StoreUnavailable, UnknownEvent, limits
from mcp_persist_sa.backends.redis import retention as redis_retention
from mcp_persist_sa.backends.sql import cutting
from tests.contract.beside import count
from tests.contract.support import Clock, fill, messages, rest, take, to_the_end
from tests.databases import Database

NOTHING = Purged()


async def _numbers(store: Store, session_id: str = "session", stream_id: str = "1") -> list[object]:
    items = await to_the_end(store, session_id, stream_id=stream_id)
    return [item if isinstance(item, Gap) else item.sequence for item in items]


# Age


async def test_events_are_served_for_their_time_and_not_longer(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60)
    ids = await fill(store, "session", "1", 2)
    clock.advance(seconds=30)
    ids += await fill(store, "session", "1", 1)
    clock.advance(seconds=29)
    assert messages(await store.read("session", after=ids[0])) == ["2", "1"]
    clock.advance(seconds=1)
    assert await _numbers(store) == [3]
    with pytest.raises(HistoryLost):
        await store.read("session", after=ids[0])
    assert messages(await store.read("session", after=ids[1])) == ["1"]
    assert messages(await store.recent("session", "1")) == ["1"]
    assert (await store.read_before("session", ids[2])).items == ()
    info = await store.stream("session", "1")
    assert (info.count, info.size, info.first_event_id, info.last_sequence) == (1, 1, ids[2], 3)


async def test_the_answers_are_the_same_once_the_expired_is_removed(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60)
    ids = await fill(store, "session", "1", 2)
    clock.advance(seconds=30)
    ids += await fill(store, "session", "1", 1)
    clock.advance(seconds=30)
    assert await store.purge() == Purged(events=2)
    assert await store.purge() == NOTHING
    assert await _numbers(store) == [3]
    with pytest.raises(HistoryLost):
        await store.read("session", after=ids[0])
    assert messages(await store.read("session", after=ids[1])) == ["1"]
    assert (await store.read_before("session", ids[2])).items == ()
    assert (await store.stream("session", "1")).last_sequence == 3


@pytest.mark.parametrize("expired", [2, 3, 4, 7])
async def test_more_expired_events_than_a_page_has_hide_none_that_are_fresh(
    database: Database, clock: Clock, expired: int
) -> None:
    store = await database.open(clock=clock, event_ttl=60, page_events=2)
    await fill(store, "session", "1", expired)
    clock.advance(seconds=60)
    await fill(store, "session", "1", 3, final=True)
    fresh = list(range(expired + 1, expired + 4))
    assert await _numbers(store) == fresh
    items = await rest(store.tail("session", stream_id="1"))
    assert [item if isinstance(item, Gap) else item.sequence for item in items] == fresh


async def test_a_stream_that_has_expired_whole_is_empty_and_goes_on(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60, page_events=2)
    ids = await fill(store, "session", "1", 5)
    clock.advance(seconds=60)
    page = await store.read("session", stream_id="1")
    assert (page.items, page.event_id, page.more) == ((), None, False)
    page = await store.read("session", after=ids[4])
    assert (page.items, page.more) == ((), False)
    await store.purge()
    assert await store.append("session", "1", "next")
    assert await _numbers(store) == [6]
    assert messages(await store.read("session", after=ids[4])) == ["next"]


async def test_a_tail_meets_a_finished_stream_that_has_expired_and_ends(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60, page_events=2)
    await fill(store, "session", "1", 5, final=True)
    clock.advance(seconds=60)
    assert await rest(store.tail("session", stream_id="1")) == []
    await store.purge()
    assert await rest(store.tail("session", stream_id="1")) == []


async def test_a_claimed_stream_expires_from_its_beginning_while_it_is_written(
    database: Database, clock: Clock
) -> None:
    store = await database.open(clock=clock, event_ttl=60)
    writer = store.claim("session", "1")
    old = [await writer.append(str(n)).durable() for n in range(1, 4)]
    clock.advance(seconds=60)
    await writer.append("4").durable()
    assert await store.purge() == Purged(events=3)
    await writer.append("5", final=True).durable()
    assert await _numbers(store) == [4, 5]
    assert messages(await store.read("session", after=old[2])) == ["4", "5"]
    with pytest.raises(HistoryLost):
        await store.read("session", after=old[1])


async def test_an_empty_stream_is_forgotten_in_the_end(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60)
    ids = await fill(store, "session", "1", 2, final=True)
    clock.advance(seconds=60)
    assert await store.purge() == Purged(events=2)
    # For as long again, its event ids are still told from forged ones.
    with pytest.raises(HistoryLost):
        await store.read("session", after=ids[0])
    clock.advance(seconds=60)
    assert await store.purge() == Purged(streams=1)
    with pytest.raises(UnknownEvent):
        await store.read("session", after=ids[0])
    assert await store.purge() == NOTHING


async def test_events_without_a_time_to_live_stay(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=None)
    await fill(store, "session", "1", 2, final=True)
    clock.advance(days=10_000)
    assert await store.purge() == NOTHING
    assert await _numbers(store) == [1, 2]


async def test_the_defaults_are_half_an_hour_idle_and_a_day(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.sessions.create("idle")
    await fill(store, "session", "1", 1)
    clock.advance(minutes=29)
    assert await store.purge() == NOTHING
    clock.advance(minutes=1)
    assert await store.purge() == Purged(sessions=1)
    clock.advance(hours=23, minutes=29)
    assert await store.purge() == NOTHING
    clock.advance(minutes=1)
    assert await store.purge() == Purged(events=1)


# Sessions


async def test_a_purge_removes_expired_sessions_with_all_that_is_theirs(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    for session_id in ("old", "used"):
        await store.sessions.create(session_id)
        await store.state(session_id).set("a", 1)
        await store.state(session_id).set("b", 1)
        await fill(store, session_id, "1", 1)
        await fill(store, session_id, "2", 3)
    clock.advance(seconds=30)
    await store.sessions.touch("used")
    clock.advance(seconds=30)
    assert await store.purge() == Purged(sessions=1, streams=2, events=4, state=2)
    assert await store.purge() == NOTHING
    assert await store.state("used").keys() == ["a", "b"]
    assert len([info async for info in store.streams("used")]) == 2


async def test_a_closed_session_is_purged_after_the_time_of_an_idle_one(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create("closed")
    clock.advance(seconds=30)
    await store.sessions.close("closed")
    clock.advance(seconds=59)
    assert await store.purge() == NOTHING
    clock.advance(seconds=1)
    assert await store.purge() == Purged(sessions=1)


async def test_many_expired_sessions_are_purged_at_once(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    for n in range(250):
        await store.sessions.create(f"s{n}")
    await fill(store, "s0", "1", 2500)
    clock.advance(seconds=60)
    assert await store.purge() == Purged(sessions=250, streams=1, events=2500)


async def test_the_state_of_old_handles_is_purged(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, state_ttl=60)
    await store.state("old").set("a", 1)
    clock.advance(seconds=59)
    await store.state("new").set("a", 1)
    assert await store.purge() == NOTHING
    clock.advance(seconds=1)
    assert await store.purge() == Purged(state=1)
    assert await store.state("new").get("a") == 1


async def test_a_deleted_value_is_not_counted_again(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.sessions.create("session")
    await store.state("session").set("a", 1)
    await store.state("session").set("b", 1)
    await store.state("session").delete("a")
    assert await store.sessions.delete("session") == Purged(sessions=1, state=1)
    await store.state("handle").set("a", 1)
    await store.state("handle").delete("a")
    clock.advance(days=30)
    assert await store.purge() == NOTHING


# Amount


async def test_a_stream_keeps_its_newest_events(database: Database) -> None:
    store = await database.open(max_events_per_stream=10)
    ids = [await store.append("session", "1", str(n)) for n in range(1, 31)]
    assert (await store.stream("session", "1")).count <= 11
    await store.purge()
    assert await _numbers(store) == list(range(21, 31))
    assert messages(await store.read("session", after=ids[19])) == [str(n) for n in range(21, 31)]
    with pytest.raises(HistoryLost):
        await store.read("session", after=ids[18])
    assert await store.purge() == NOTHING


async def test_a_stream_keeps_its_newest_bytes(database: Database) -> None:
    store = await database.open(max_bytes_per_stream=100)
    for _ in range(20):
        await store.append("session", "1", "ä" * 10)
    assert (await store.stream("session", "1")).size <= 120
    await store.purge()
    assert (await store.stream("session", "1")).size == 100
    await store.append("session", "1", "x" * 1000)
    await store.purge()
    assert (await store.stream("session", "1")).size == 1000


async def test_a_session_keeps_its_newest_events(database: Database, clock: Clock) -> None:
    store = await database.open(max_events_per_session=10, clock=clock)
    for n in range(30):
        await store.append("session", "ab"[n % 2], str(n))
        await store.append("other", "1", str(n)) if n < 10 else None
        clock.advance(seconds=1)
    await store.purge()
    assert messages(await store.recent("session", "a")) == ["20", "22", "24", "26", "28"]
    assert messages(await store.recent("session", "b")) == ["21", "23", "25", "27", "29"]
    assert len((await store.recent("other", "1")).events) == 10


async def test_a_session_keeps_its_newest_bytes(database: Database, clock: Clock) -> None:
    store = await database.open(max_bytes_per_session=100, clock=clock)
    for n in range(10):
        await store.append("session", "ab"[n % 2], "x" * 25)
        clock.advance(seconds=1)
    await store.purge()
    sizes = {info.stream_id: info.size async for info in store.streams("session")}
    assert sizes == {"a": 50, "b": 50}


async def test_each_stream_is_limited_for_itself(database: Database) -> None:
    store = await database.open(max_events_per_stream=5)
    for name in "abc":
        await fill(store, "session", name, 8)
    await store.purge()
    assert {info.stream_id: info.count async for info in store.streams("session")} == {"a": 5, "b": 5, "c": 5}


async def test_a_claimed_stream_is_limited_too(database: Database) -> None:
    store = await database.open(max_events_per_stream=10)
    writer = store.claim("session", "1")
    for n in range(1, 31):
        await writer.append(str(n), final=n == 30).durable()
    await store.purge()
    assert await _numbers(store) == list(range(21, 31))
    assert (await store.stream("session", "1")).finished


async def test_a_tail_that_is_slower_than_the_limit_is_told(database: Database) -> None:
    store = await database.open(max_events_per_stream=10, page_events=2)
    await store.append("session", "1", "first")
    tail = store.tail("session", stream_id="1")
    await take(tail, 1)
    await store.append_many("session", "1", [NewEvent(str(n)) for n in range(30)])
    await store.purge()
    with pytest.raises(HistoryLost):
        await rest(tail)


async def test_the_newest_event_stays_though_the_clock_went_back(database: Database, clock: Clock) -> None:
    store = await database.open(max_events_per_session=1, clock=clock)
    first = await store.append("session", "1", "first")
    clock.advance(seconds=-50)
    await store.append("session", "1", "second")
    await store.purge()
    assert messages(await store.read("session", after=first)) == ["second"]


def _fails(*given: object, **_: object) -> int:
    failed = OperationalError("DELETE", {}, Exception("the removal fails"))
    raise failed if isinstance(given[0], sa.Connection) else StoreUnavailable("the removal fails")


async def test_events_are_stored_once_though_what_is_over_a_limit_cannot_be_removed(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = await database.open(max_events_per_stream=10)
    with monkeypatch.context() as broken:
        broken.setattr(*((redis_retention, "over_limits") if database.is_redis else (cutting, "remove")), _fails)
        ids = await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(1, 31)))
    assert "the removal fails" in caplog.text
    assert await _numbers(store) == list(range(1, 31))
    assert len(set(ids)) == 30
    await store.append("session", "1", "31")
    assert await _numbers(store) == list(range(22, 32))


async def test_limits_hold_in_more_sessions_than_are_watched(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_MOST_NOTED", 3)
    store = await database.open(max_events_per_stream=100)
    await fill(store, "session", "1", 101)
    await fill(store, "session", "1", 5)
    assert (await store.stream("session", "1")).count == 105
    for n in range(3):
        await store.append(f"other{n}", "1", "x")
    assert (await store.stream("session", "1")).count == 100


async def test_limits_lower_what_is_there_already(shared_database: Database) -> None:
    store = await shared_database.open()
    await fill(store, "session", "1", 2500)
    limited = await shared_database.open(max_events_per_stream=100)
    assert await limited.purge() == Purged(events=2400)
    assert (await store.stream("session", "1")).count == 100


# The purge itself


async def test_writers_go_on_during_a_purge(shared_database: Database, clock: Clock) -> None:
    store = await shared_database.open(clock=clock, event_ttl=60)
    for name in "abc":
        await fill(store, "session", name, 2500)
    clock.advance(seconds=61)
    purger = await shared_database.open(clock=clock, event_ttl=60)
    purge = asyncio.ensure_future(purger.purge())
    written = 0
    while not purge.done():
        await store.append("session", "live", str(written))
        written += 1
    assert (await purge).events == 7500
    assert [event.message for event in (await store.recent("session", "live", limit=10_000)).events] == [
        str(n) for n in range(written)
    ]


async def test_two_purges_at_once_remove_everything_once(shared_database: Database, clock: Clock) -> None:
    nodes = [await shared_database.open(clock=clock, event_ttl=60, session_ttl=60) for _ in range(2)]
    for n in range(20):
        await nodes[0].sessions.create(f"s{n}")
        await fill(nodes[0], f"s{n}", "1", 3)
    await fill(nodes[0], "handle", "1", 3000)
    clock.advance(seconds=61)
    first, second = await asyncio.gather(*(node.purge() for node in nodes))
    assert first.plus(second) == Purged(sessions=20, streams=20, events=3060)
    assert await count(shared_database, "events") == 0
    assert await count(shared_database, "sessions") == 0


async def test_numbers_go_on_after_everything_was_removed(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60, max_events_per_stream=5)
    seen = set(await fill(store, "session", "1", 7))
    clock.advance(seconds=61)
    await store.purge()
    new = await fill(store, "session", "1", 2)
    assert not seen & set(new)
    assert await _numbers(store) == [8, 9]


async def test_what_stands_before_an_expired_event_is_expired_too(database: Database, clock: Clock) -> None:
    """Another node, whose clock is behind, has stored the second event."""
    store = await database.open(clock=clock, event_ttl=60)
    await store.append("session", "1", "1")
    clock.advance(seconds=-5)
    await store.append("session", "1", "2")
    clock.advance(seconds=60)
    assert (await store.read("session", stream_id="1")).items == ()
    clock.advance(seconds=5)
    await store.append("session", "1", "3")
    assert messages(await store.read("session", stream_id="1")) == ["3"]
