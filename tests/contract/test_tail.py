"""Tail: what a stream holds, then what comes, until it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from mcp_persist_sa import Event, Gap, HistoryLost, InvalidInput, NewEvent, SessionNotFound, Store, UnknownEvent
from mcp_persist_sa.identity import EventId
from mcp_persist_sa.streams import Tail
from mcp_persist_sa.stretches import Stretch
from tests.contract.beside import count, lose_events
from tests.contract.support import PATIENCE, Clock, fill, rest, take
from tests.databases import Database


async def test_a_tail_gives_history_then_what_comes_until_the_final_event(store: Store) -> None:
    ids = await fill(store, "session", "1", 3)
    async with aclosing(store.tail("session", after=ids[0])) as items:
        seen = await take(items, 2)
        for n in range(4, 7):
            await store.append("session", "1", str(n), final=n == 6)
        seen += await rest(items)
    assert [item.message for item in seen if not isinstance(item, Gap)] == ["2", "3", "4", "5", "6"]


async def test_a_tail_of_a_finished_stream_ends(store: Store) -> None:
    ids = await fill(store, "session", "1", 3, final=True)
    assert len(await rest(store.tail("session", stream_id="1"))) == 3
    assert len(await rest(store.tail("session", after=ids[1]))) == 1
    assert await rest(store.tail("session", after=ids[2])) == []


async def test_a_tail_that_is_left_while_it_reads_ahead_stops_reading(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append_many("session", "1", [NewEvent(str(n)) for n in range(600)])
    read, begun, stopped = Tail.read, asyncio.Event(), asyncio.Event()

    async def hang_behind_the_first_page(tail: Tail, place: EventId, **options: Any) -> Stretch:
        if not place.sequence:
            return await read(tail, place, **options)
        begun.set()
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    monkeypatch.setattr(Tail, "read", hang_behind_the_first_page)
    async with aclosing(store.tail("session", stream_id="1")) as items:
        assert [item.message for item in await take(items, 2) if not isinstance(item, Gap)] == ["0", "1"]
        await asyncio.wait_for(begun.wait(), PATIENCE)
        assert not stopped.is_set()
    assert stopped.is_set()


async def test_what_a_tail_meets_while_it_reads_ahead_is_told_when_its_turn_comes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append_many("session", "1", [NewEvent(str(n)) for n in range(600)])
    read = Tail.read

    async def lose_what_follows(tail: Tail, place: EventId, **options: Any) -> Stretch:
        if place.sequence:
            raise HistoryLost("gone")
        return await read(tail, place, **options)

    monkeypatch.setattr(Tail, "read", lose_what_follows)
    seen: list[object] = []

    async def follow() -> None:
        async for item in store.tail("session", stream_id="1"):
            seen.append(item)
            await asyncio.sleep(0)

    with pytest.raises(HistoryLost):
        await follow()
    assert len(seen) == 127


async def test_what_follows_is_asked_for_before_the_events_of_a_page_are_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a database reads while we work. The first page is there at once; it is short."""
    await store.append_many("session", "1", [NewEvent(str(n)) for n in range(1, 2301)])
    await store.append("session", "1", None, final=True)
    read, order = Tail.read, list[str]()

    async def noted(tail: Tail, place: EventId, **options: Any) -> Stretch:
        order.append(f"read behind {place.sequence}")
        found = await read(tail, place, **options)

        def items() -> Iterable[Event | Gap]:
            order.append(f"make {found.count}")
            return found.items()

        return replace(found, items=items)

    monkeypatch.setattr(Tail, "read", noted)
    assert len(await rest(store.tail("session", stream_id="1"))) == 2301
    assert order == [
        *("read behind 0", "make 127", "read behind 127"),
        *("read behind 1127", "make 1000", "read behind 2127", "make 1000"),
        "make 174",
    ]


async def test_the_first_event_of_a_page_is_given_before_the_others_are_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append_many("session", "1", [NewEvent(str(n)) for n in range(100)])
    read, made = Tail.read, list[Event | Gap]()

    async def noted(tail: Tail, place: EventId, **options: Any) -> Stretch:
        found = await read(tail, place, **options)

        def items() -> Iterable[Event | Gap]:
            items = found.items()
            assert isinstance(items, Iterator)
            for item in items:
                made.append(item)
                yield item

        return replace(found, items=items)

    monkeypatch.setattr(Tail, "read", noted)
    async with aclosing(store.tail("session", stream_id="1")) as events:
        assert await take(events, 1) == made
        assert len(made) == 1


async def test_a_tail_may_begin_before_its_stream(store: Store) -> None:
    tail = asyncio.ensure_future(rest(store.tail("session", stream_id="1")))
    await asyncio.sleep(0)
    await store.append("session", "2", "of another stream")
    await fill(store, "session", "1", 2, final=True)
    assert [item.message for item in await tail] == ["1", "2"]


@pytest.mark.parametrize("finished", [False, True], ids=["open", "finished"])
async def test_a_tail_from_now_leaves_out_what_is_there(store: Store, finished: bool) -> None:
    await fill(store, "session", "1", 3, final=finished)
    async with aclosing(store.tail("session", stream_id="1", from_now=True)) as items:
        first = asyncio.ensure_future(take(items, 1))
        # When the tail begins is not known, only that it is after the three.
        written = 3
        while not first.done():
            written += 1
            await store.append("session", "1", str(written))
        await store.append("session", "1", "end", final=True)
        seen = [item.message for item in [*(await first), *(await rest(items))] if not isinstance(item, Gap)]
    begin = int(seen[0] or 0)
    assert begin > 3
    assert seen == [*(str(n) for n in range(begin, written + 1)), "end"]


async def test_many_tails_of_one_stream_see_the_same(store: Store) -> None:
    tails = [asyncio.ensure_future(rest(store.subscribe("session", "1"))) for _ in range(20)]
    await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(50)))
    await store.append("session", "1", "end", final=True)
    seen = await asyncio.gather(*tails)
    assert len(seen[0]) == 51
    assert all(other == seen[0] for other in seen)


async def test_a_tail_sees_what_another_node_writes(shared_database: Database) -> None:
    reader, writer = await shared_database.open(poll_interval=0.05), await shared_database.open()
    tail = asyncio.ensure_future(rest(reader.tail("session", stream_id="1")))
    for n in range(20):
        await writer.append("session", "1", str(n), final=n == 19)
    assert [item.message for item in await tail] == [str(n) for n in range(20)]


async def test_pages_may_be_as_large_as_options_can_say(database: Database) -> None:
    store = await database.open(page_events=2**53, page_bytes=2**53)
    ids = await fill(store, "session", "1", 300, final=True)
    assert [item.event_id for item in (await store.read("session", after=ids[0])).events] == ids[1:]
    assert len(await rest(store.tail("session", stream_id="1"))) == 300


async def test_a_tail_follows_a_claimed_stream_page_by_page(database: Database) -> None:
    store = await database.open(page_events=3)
    tail = asyncio.ensure_future(rest(store.tail("session", stream_id="1")))
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n), final=n == 99) for n in range(100)]
    await asyncio.gather(*(receipt.durable() for receipt in receipts))
    assert [item.message for item in await tail] == [str(n) for n in range(100)]


async def test_what_a_tail_gives_is_durable(shared_database: Database) -> None:
    store = await shared_database.open()
    async with aclosing(store.tail("session", stream_id="1")) as items:
        receipt = store.claim("session", "1").append("a")
        await take(items, 1)
        assert await count(shared_database, "events") == 1
    await receipt.durable()


async def test_a_tail_tells_of_a_gap(shared_database: Database) -> None:
    store = await shared_database.open()
    ids = await fill(store, "session", "1", 5, final=True)
    await lose_events(shared_database, 2, 3)
    items = await rest(store.tail("session", after=ids[0]))
    assert [item if isinstance(item, Gap) else item.sequence for item in items] == [Gap(2, 3), 4, 5]


# Ends


async def test_a_tail_ends_with_its_session(store: Store) -> None:
    await store.sessions.create("session")
    await fill(store, "session", "1", 2)
    async with aclosing(store.tail("session", stream_id="1")) as items:
        await take(items, 2)
        end = asyncio.ensure_future(rest(items))
        await asyncio.sleep(0)
        await store.sessions.close("session")
        assert await end == []


@pytest.mark.parametrize("from_now", [False, True])
async def test_a_tail_of_a_stream_that_never_began_ends_with_its_session(store: Store, from_now: bool) -> None:
    await store.sessions.create("session")
    end = asyncio.ensure_future(rest(store.tail("session", stream_id="1", from_now=from_now)))
    await asyncio.sleep(0)
    await store.sessions.close("session")
    assert await end == []


async def test_a_tail_that_waits_for_the_next_stream_of_a_name_ends_with_its_session(store: Store) -> None:
    await store.sessions.create("session")
    await fill(store, "session", "1", 2, final=True)
    end = asyncio.ensure_future(rest(store.tail("session", stream_id="1", from_now=True)))
    await asyncio.sleep(0)
    await store.sessions.close("session")
    assert await end == []


async def test_a_tail_gives_the_history_of_a_closed_session_and_ends(database: Database) -> None:
    store = await database.open(page_events=2)
    await store.sessions.create("session")
    await fill(store, "session", "1", 5)
    await store.sessions.close("session")
    assert len(await rest(store.tail("session", stream_id="1"))) == 5


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "never begun"])
async def test_a_tail_of_a_session_that_expires_says_so(database: Database, clock: Clock, begun: bool) -> None:
    store = await database.open(clock=clock, session_ttl=60, poll_interval=0.05)
    await store.sessions.create("session")
    if begun:
        await fill(store, "session", "1", 2)
    async with aclosing(store.tail("session", stream_id="1")) as items:
        await take(items, 2 if begun else 0)
        end = asyncio.ensure_future(rest(items))
        await asyncio.sleep(0)
        clock.advance(seconds=61)
        with pytest.raises(SessionNotFound):
            await end


async def test_a_tail_of_a_session_that_is_deleted_ends(store: Store) -> None:
    await store.sessions.create("session")
    await fill(store, "session", "1", 2)
    async with aclosing(store.tail("session", stream_id="1")) as items:
        await take(items, 2)
        end = asyncio.ensure_future(rest(items))
        await asyncio.sleep(0)
        await store.sessions.delete("session")
        outcome = (await asyncio.gather(end, return_exceptions=True))[0]
        # It may look in the middle of the deletion.
        assert outcome == [] or isinstance(outcome, UnknownEvent | HistoryLost)


async def test_a_tail_that_is_overtaken_by_a_deletion_says_so(store: Store) -> None:
    ids = await fill(store, "session", "1", 2)
    async with aclosing(store.tail("session", after=ids[0])) as items:
        await take(items, 1)
        newer = await fill(store, "session", "1", 5)
        await store.delete_before("session", newer[4])
        with pytest.raises(HistoryLost):
            await rest(items)


@pytest.mark.parametrize("how", ["close", "delete"])
async def test_a_tail_that_waits_for_a_stream_ends_with_its_session(database: Database, how: str) -> None:
    store = await database.open(poll_interval=0.01)
    waiting = asyncio.ensure_future(rest(store.tail("session", stream_id="1")))
    while not waiting.done():
        # When it looks is not known: again, until it has seen the session open.
        await store.sessions.create("session")
        for _ in range(5):
            await store.sessions.get("session")
        await (store.sessions.close if how == "close" else store.sessions.delete)("session")
        await asyncio.wait({waiting}, timeout=0.1)
        await store.sessions.delete("session")
    assert await waiting == []


async def test_a_tail_that_is_abandoned_leaves_nothing_behind(database: Database) -> None:
    store = await database.open(background=False)
    before = asyncio.all_tasks()
    tail = asyncio.ensure_future(rest(store.tail("session", stream_id="1")))
    await store.append("session", "1", "a")
    tail.cancel()
    with pytest.raises(asyncio.CancelledError):
        await tail
    # What it had begun to read runs to its end.
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=PATIENCE)
    assert asyncio.all_tasks() == before
    assert await store.append("session", "1", "b")


async def test_tails_that_wait_hold_no_connection(database: Database) -> None:
    store = await database.open(pool_size=1, timeout=5)
    ids = await fill(store, "session", "1", 1)
    async with aclosing(store.tail("session", stream_id="1")) as slow:
        await take(slow, 1)
        tails = [asyncio.ensure_future(rest(store.tail("session", after=ids[0]))) for _ in range(10)]
        await asyncio.sleep(0)
        for n in range(5):
            await store.append("session", "1", str(n), final=n == 4)
        assert {len(items) for items in await asyncio.gather(*tails)} == {5}
        assert len(await rest(slow)) == 5


# What is refused


async def test_a_tail_of_what_is_not_the_session_s_is_refused(store: Store) -> None:
    ids = await fill(store, "session", "1", 2)
    for session, event_id in (("other", ids[0]), ("session", "forged"), ("session", f"{'A' * 16}.1.{'A' * 8}")):
        with pytest.raises(UnknownEvent):
            await rest(store.tail(session, after=event_id))


async def test_a_tail_after_lost_history_is_refused(store: Store) -> None:
    ids = await fill(store, "session", "1", 3)
    await store.delete_before("session", ids[2])
    with pytest.raises(HistoryLost):
        await rest(store.tail("session", after=ids[0]))


async def test_a_tail_has_one_place_to_begin(store: Store) -> None:
    ids = await fill(store, "session", "1", 1, final=True)
    with pytest.raises(InvalidInput):
        await rest(store.tail("session"))
    with pytest.raises(UnknownEvent):
        await rest(store.tail("session", "2", after=ids[0]))
    with pytest.raises(InvalidInput):
        await rest(store.tail("session", after=ids[0], from_now=True))
    with pytest.raises(InvalidInput):
        await store.read("session")
    with pytest.raises(InvalidInput):
        await store.read("session", after=ids[0], stream_id="1")
