"""Claimed streams: one writer numbers the events itself, and learns of each when it is durable."""

from __future__ import annotations

import asyncio

import pytest

from mcp_persist_sa import Gap, InvalidInput, Overloaded, PersistError, Store, StoreClosed, StreamClaimed, TooLarge
from tests.contract.beside import lose_events
from tests.contract.support import PATIENCE, fill, messages, rest, to_the_end
from tests.databases import Database


async def test_a_writer_gives_ids_before_the_events_are_durable(store: Store) -> None:
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n)) for n in range(5)]
    assert not any(receipt.stored for receipt in receipts)
    assert [await receipt.durable() for receipt in receipts] == [receipt.event_id for receipt in receipts]
    assert all(receipt.stored for receipt in receipts)
    page = await store.read("session", stream_id="1")
    assert [event.event_id for event in page.events] == [receipt.event_id for receipt in receipts]
    assert [(event.sequence, event.message) for event in page.events] == [(n + 1, str(n)) for n in range(5)]


async def test_many_events_are_handed_over_without_waiting(store: Store) -> None:
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n)) for n in range(3000)]
    await asyncio.gather(*(receipt.durable() for receipt in receipts))
    items = await to_the_end(store, "session", stream_id="1")
    assert [item.message for item in items if not isinstance(item, Gap)] == [str(n) for n in range(3000)]
    assert len(items) == 3000


async def test_a_writer_finishes_its_stream(store: Store) -> None:
    writer = store.claim("session", "1")
    first = await writer.append(None).durable()
    last = await writer.append("end", final=True).durable()
    page = await store.read("session", after=first)
    assert (messages(page), page.finished) == (["end"], True)
    assert (await store.read("session", after=last)).finished
    with pytest.raises(PersistError, match="claim it anew"):
        writer.append("more")
    info = await store.stream("session", "1")
    assert (info.claimed, info.finished, info.last_sequence, info.count) == (True, True, 2, 2)


async def test_a_stream_that_begins_and_ends_in_one_transaction_is_finished(store: Store) -> None:
    writer = store.claim("session", "1")
    receipts = [writer.append("a"), writer.append("b", final=True)]
    await asyncio.gather(*(receipt.durable() for receipt in receipts))
    assert (await store.stream("session", "1")).finished
    assert [item.message for item in await rest(store.tail("session", stream_id="1"))] == ["a", "b"]


async def test_what_is_known_of_a_claimed_stream_while_it_is_written(store: Store) -> None:
    writer = store.claim("session", "1")
    ids = [await writer.append("x" * n).durable() for n in range(1, 4)]
    info = await store.stream("session", "1")
    assert (info.claimed, info.finished, info.count, info.size, info.last_sequence) == (True, False, 3, 6, 3)
    assert (info.first_event_id, info.last_event_id) == (ids[0], ids[2])
    assert info.last_activity_at >= info.created_at


# Who has it


async def test_the_second_claimant_is_told(shared_database: Database) -> None:
    mine, other = await shared_database.open(), await shared_database.open()
    writer = mine.claim("session", "1")
    await writer.append("mine").durable()
    rival = other.claim("session", "1")
    receipts = [rival.append("not mine"), rival.append("nor this")]
    for receipt in receipts:
        with pytest.raises(StreamClaimed):
            await receipt.durable()
        assert not receipt.stored
    with pytest.raises(StreamClaimed):
        await rival.append("later").durable()
    await writer.append("mine again").durable()
    assert messages(await mine.read("session", stream_id="1")) == ["mine", "mine again"]


async def test_of_claimants_at_once_one_has_the_stream(shared_database: Database) -> None:
    nodes = [await shared_database.open() for _ in range(2)]
    receipts = [nodes[n % 2].claim("session", "1").append(str(n)) for n in range(20)]
    results = await asyncio.gather(*(receipt.durable() for receipt in receipts), return_exceptions=True)
    winners = [n for n, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert all(isinstance(result, StreamClaimed) for n, result in enumerate(results) if n not in winners)
    assert messages(await nodes[0].read("session", stream_id="1")) == [str(winners[0])]


async def test_of_claimants_in_one_transaction_one_has_the_stream(store: Store) -> None:
    receipts = [store.claim("session", "1").append(str(n)) for n in range(5)]
    results = await asyncio.gather(*(receipt.durable() for receipt in receipts), return_exceptions=True)
    assert [type(result).__name__ for result in results].count("StreamClaimed") == 4
    assert len((await store.read("session", stream_id="1")).events) == 1


async def test_nobody_appends_to_a_claimed_stream(store: Store) -> None:
    writer = store.claim("session", "1")
    await writer.append("mine").durable()
    with pytest.raises(StreamClaimed):
        await store.append("session", "1", "not mine")
    assert messages(await store.read("session", stream_id="1")) == ["mine"]
    assert await store.append("session", "2", "elsewhere")


async def test_a_stream_that_others_append_to_cannot_be_claimed(store: Store) -> None:
    await store.append("session", "1", "first")
    with pytest.raises(StreamClaimed):
        await store.claim("session", "1").append("mine").durable()
    await store.append("session", "1", "second", final=True)
    assert messages(await store.read("session", stream_id="1")) == ["first", "second"]


async def test_the_same_name_in_another_session_is_free(store: Store) -> None:
    await store.claim("session", "1").append("a").durable()
    await store.claim("other", "1").append("b").durable()
    assert messages(await store.read("other", stream_id="1")) == ["b"]


async def test_a_finished_stream_can_be_claimed_anew(store: Store) -> None:
    writer = store.claim("session", "1")
    old = await writer.append("old").durable()
    await writer.append("end", final=True).durable()
    await store.claim("session", "1").append("new").durable()
    assert messages(await store.read("session", stream_id="1")) == ["new"]
    assert messages(await store.read("session", after=old)) == ["end"]


async def test_a_stream_can_be_claimed_anew_while_its_end_is_under_way(store: Store) -> None:
    writer = store.claim("session", "1")
    old = await writer.append("old").durable()
    end = writer.append("end", final=True)
    new = store.claim("session", "1").append("new")
    await asyncio.gather(end.durable(), new.durable())
    assert messages(await store.read("session", stream_id="1")) == ["new"]
    assert messages(await store.read("session", after=old)) == ["end"]


async def test_a_stream_can_be_claimed_while_the_end_that_others_gave_it_is_under_way(store: Store) -> None:
    old = await store.append("session", "1", "old")
    busy = store.claim("session", "busy").append("x")
    end = asyncio.ensure_future(store.append("session", "1", "end", final=True))
    # So many turns of the loop that the end is queued for sure, behind the transaction that runs.
    for _ in range(10):
        await asyncio.sleep(0)
    new = store.claim("session", "1").append("new")
    await asyncio.gather(busy.durable(), end, new.durable())
    assert messages(await store.read("session", stream_id="1")) == ["new"]
    assert messages(await store.read("session", after=old)) == ["end"]


async def test_a_stream_whose_claimed_predecessor_ends_can_be_appended_to(store: Store) -> None:
    writer = store.claim("session", "1")
    await writer.append("old").durable()
    end = writer.append("end", final=True)
    await asyncio.gather(end.durable(), store.append("session", "1", "new"))
    assert messages(await store.read("session", stream_id="1")) == ["new"]


async def test_a_writer_whose_stream_was_deleted_is_told(store: Store) -> None:
    writer = store.claim("session", "1")
    await writer.append("a").durable()
    await store.delete_events("session")
    with pytest.raises(StreamClaimed):
        await writer.append("b").durable()
    assert [info async for info in store.streams("session")] == []


async def test_also_a_writer_whose_stream_has_been_there_for_long_is_told(shared_database: Database) -> None:
    store, other = await shared_database.open(), await shared_database.open()
    for deleter in (store, other):
        writer = store.claim("session", "1")
        for _ in range(4):
            await writer.append("a").durable()
        await deleter.delete_events("session")
        with pytest.raises(StreamClaimed):
            await writer.append("b").durable()
        assert [info async for info in store.streams("session")] == []


# What is refused


@pytest.mark.parametrize("refused", [1, 2])
async def test_an_event_that_is_refused_leaves_a_gap_that_is_told(database: Database, refused: int) -> None:
    store = await database.open(max_message_bytes=10)
    writer = store.claim("session", "1")
    for n in range(1, 4):
        if n == refused:
            with pytest.raises(TooLarge):
                writer.append("x" * 11)
        else:
            await writer.append(str(n)).durable()
    await writer.append("4", final=True).durable()
    expected = [Gap(n, n) if n == refused else str(n) for n in range(1, 5)]
    items = (await store.read("session", stream_id="1")).items
    assert [item if isinstance(item, Gap) else item.message for item in items] == expected
    tailed = await rest(store.tail("session", stream_id="1"))
    assert [item if isinstance(item, Gap) else item.message for item in tailed] == expected


async def test_a_final_event_that_is_refused_leaves_the_stream_open(database: Database) -> None:
    store = await database.open(max_message_bytes=10)
    writer = store.claim("session", "1")
    await writer.append("1").durable()
    with pytest.raises(TooLarge):
        writer.append("x" * 11, final=True)
    await writer.append("small", final=True).durable()
    assert (await store.stream("session", "1")).finished


async def test_a_full_queue_refuses_at_once_and_leaves_a_gap(database: Database) -> None:
    store = await database.open(max_queued_events=3)
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n)) for n in range(1, 4)]
    with pytest.raises(Overloaded, match="3 events"):
        writer.append("4")
    await asyncio.gather(*(receipt.durable() for receipt in receipts))
    await writer.append("5", final=True).durable()
    items = (await store.read("session", stream_id="1")).items
    assert [item if isinstance(item, Gap) else item.message for item in items] == ["1", "2", "3", Gap(4, 4), "5"]


async def test_all_sessions_share_one_queue(database: Database) -> None:
    store = await database.open(max_queued_events=20)
    receipts = [store.claim(str(n), "1").append("x") for n in range(20)]
    with pytest.raises(Overloaded, match="20 events"):
        store.claim("20", "1").append("x")
    await asyncio.gather(*(receipt.durable() for receipt in receipts))


async def test_a_full_queue_counts_bytes(database: Database) -> None:
    store = await database.open(max_queued_bytes=100)
    writer = store.claim("session", "1")
    receipts = [writer.append("x" * 60), writer.append("x" * 40)]
    with pytest.raises(Overloaded):
        writer.append("x")
    await asyncio.gather(*(receipt.durable() for receipt in receipts))
    await writer.append("x" * 1000).durable()


async def test_whoever_appends_waits_for_room_in_the_queue(database: Database) -> None:
    store = await database.open(max_queued_events=2)
    ids = await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(20)))
    assert len(set(ids)) == 20
    assert len((await store.read("session", stream_id="1")).events) == 20


async def test_events_of_streams_that_are_refused_take_no_others_along(store: Store) -> None:
    await store.claim("session", "1").append("mine").durable()
    calls = [store.append("session", name, "x") for name in ("0", "1", "2", "1", "3")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, StreamClaimed) for result in results] == [False, True, False, True, False]
    assert {info.stream_id: info.count async for info in store.streams("session")} == {"0": 1, "1": 1, "2": 1, "3": 1}


# Cancellation and closing


async def test_to_stop_waiting_does_not_stop_the_writing(store: Store) -> None:
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n)) for n in range(3)]
    waits = [asyncio.ensure_future(receipt.durable()) for receipt in receipts]
    await asyncio.sleep(0)
    waits[1].cancel()
    await asyncio.wait(waits)
    assert await asyncio.wait_for(receipts[1].durable(), PATIENCE) == receipts[1].event_id
    assert messages(await store.read("session", stream_id="1")) == ["0", "1", "2"]


async def test_closing_writes_what_is_queued(shared_database: Database) -> None:
    store = await shared_database.open()
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n)) for n in range(100)]
    await store.close()
    assert all(receipt.stored for receipt in receipts)
    with pytest.raises(StoreClosed):
        writer.append("late")
    reader = await shared_database.open()
    assert len((await reader.read("session", stream_id="1")).events) == 100


async def test_a_gap_in_a_claimed_stream_is_told(shared_database: Database) -> None:
    store = await shared_database.open()
    writer = store.claim("session", "1")
    ids = [await writer.append(str(n)).durable() for n in range(1, 5)]
    await lose_events(shared_database, 2)
    assert (await store.read("session", after=ids[0])).items[0] == Gap(2, 2)


async def test_a_claimed_message_is_checked_at_the_door(store: Store) -> None:
    writer = store.claim("session", "1")
    for message in ("nul \0", "surrogate \ud800"):
        with pytest.raises(InvalidInput):
            writer.append(message)
    ids = await fill(store, "session", "2", 1)
    assert ids
