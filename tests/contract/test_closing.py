"""Opening and closing: a closed store says so, and between calls nothing runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from mcp_persist_sa import NewEvent, Store, StoreClosed, open_store
from tests.contract.support import PATIENCE, fill, rest, take
from tests.databases import Database


def _calls(store: Store, event_id: str) -> list[Callable[[], Awaitable[object]]]:
    async def recorded() -> object:
        return await store.sessions.get("session")

    async def of_state() -> object:
        return await store.state("session").get("key")

    async def claimed() -> object:
        return await store.claim("session", "9").append("x").durable()

    async def listed() -> object:
        return [info async for info in store.streams("session")]

    return [
        recorded,
        of_state,
        claimed,
        listed,
        lambda: store.append("session", "1", "x"),
        lambda: store.append_many("session", "1", [NewEvent("x")]),
        lambda: store.read("session", stream_id="1"),
        lambda: store.read("session", after=event_id),
        lambda: store.read_before("session", event_id),
        lambda: store.recent("session", "1"),
        lambda: rest(store.tail("session", stream_id="1")),
        lambda: store.stream("session", "1"),
        lambda: store.delete_before("session", event_id),
        lambda: store.delete_events("session"),
        store.purge,
    ]


async def test_a_closed_store_says_so(database: Database) -> None:
    store = await database.open()
    event_id = (await fill(store, "session", "1", 1))[0]
    await store.close()
    for call in _calls(store, event_id):
        with pytest.raises(StoreClosed):
            await call()
    await store.close()


async def test_a_store_that_was_never_opened_says_so() -> None:
    store = open_store("sqlite://")
    for call in _calls(store, f"{'A' * 16}.1.{'A' * 8}"):
        with pytest.raises(StoreClosed, match="async with"):
            await call()
    await store.close()


async def test_what_a_store_gave_out_is_closed_with_it(database: Database) -> None:
    store = await database.open()
    await store.sessions.create("session")
    sessions, state, writer = store.sessions, store.state("session"), store.claim("session", "1")
    await state.set("key", 1)
    await writer.append("x").durable()
    await store.close()
    with pytest.raises(StoreClosed):
        writer.append("y")
    with pytest.raises(StoreClosed):
        await state.get("key")
    with pytest.raises(StoreClosed):
        await state.set("key", 2)
    with pytest.raises(StoreClosed):
        await sessions.get("session")
    with pytest.raises(StoreClosed):
        await sessions.create()


async def test_a_tail_ends_when_its_store_is_closed(database: Database) -> None:
    store = await database.open(poll_interval=0.05)
    await fill(store, "session", "1", 1)
    tail = store.tail("session", stream_id="1")
    await take(tail, 1)
    end = asyncio.ensure_future(rest(tail))
    await asyncio.sleep(0)
    await store.close()
    with pytest.raises(StoreClosed):
        await end


async def test_a_store_can_be_opened_again(shared_database: Database) -> None:
    store = await shared_database.open()
    ids = await fill(store, "session", "1", 2)
    for _ in range(2):
        await store.close()
        await store.open()
        assert len((await store.read("session", after=ids[0])).events) == 1
        ids += [await store.append("session", "1", "again", final=True)]
        ids = [await store.append("session", "1", "next"), await store.append("session", "1", "last")]


async def test_a_store_that_is_opened_twice_at_once_is_opened_once(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
    await asyncio.gather(store.open(), store.open())
    await store.append("session", "1", "x")
    await store.close()
    assert not any(thread.name.startswith("mcp-persist-sa") for thread in threading.enumerate())


async def test_what_was_acknowledged_is_there_after_closing(shared_database: Database) -> None:
    store = await shared_database.open()
    calls = [asyncio.ensure_future(store.append("session", "1", str(n))) for n in range(50)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await store.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    acknowledged = {result for result in results if isinstance(result, str)}
    assert all(isinstance(result, str | StoreClosed) for result in results)
    again = await shared_database.open()
    stored = {event.event_id for event in (await again.read("session", stream_id="1")).events}
    assert stored == acknowledged
    assert stored


# Between calls


async def test_nothing_runs_when_a_call_has_returned(database: Database) -> None:
    store = await database.open(background=False, max_events_per_session=20)
    before = asyncio.all_tasks()
    await store.sessions.create("session", owner="alice")
    event_id = await store.append("session", "1", "x")
    for call in _calls(store, event_id)[:9]:
        await call()
        assert asyncio.all_tasks() == before
    await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(50)))
    assert asyncio.all_tasks() == before
    tail = store.tail("session", stream_id="1")
    await take(tail, 1)
    await tail.aclose()
    assert asyncio.all_tasks() == before
    await store.state("session").update("count", lambda value: value + 1, 0)
    await store.sessions.touch("session")
    await store.delete_events("session")
    await store.sessions.delete_owner("alice")
    await store.purge()
    assert asyncio.all_tasks() == before


async def test_a_call_that_was_cancelled_leaves_nothing_half_done(database: Database) -> None:
    store = await database.open(background=False)
    before = asyncio.all_tasks()
    for turns in range(12):
        call = asyncio.ensure_future(store.append_many("session", "1", [NewEvent("a"), NewEvent("b", True)]))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    left = asyncio.all_tasks() - before
    if left:
        await asyncio.wait(left, timeout=PATIENCE)
    assert asyncio.all_tasks() == before
    for info in [info async for info in store.streams("session")]:
        assert (info.count, info.finished) == (2, True)
