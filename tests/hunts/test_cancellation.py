"""Callers that give up at any moment disturb nobody else, and leave nothing behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from random import Random
from typing import Any

from mcp_persist_sa import Event, NewEvent, Store
from tests.contract.support import execute, to_the_end
from tests.databases import Database
from tests.hunts.operations import READS, WRITES, Operation, prepare, use_everything
from tests.hunts.support import CLIENTS, HUNT, Pools, bounded, check_intact, check_nothing_left, eventually

ROUNDS = 12 * HUNT
CALLERS = 40
STREAMS = ["a", "b", "c"]


async def _shared(store: Store, tag: str) -> list[str]:
    return [await store.append("session", STREAMS[len(tag) % 2], tag)]


async def _several(store: Store, tag: str) -> list[str]:
    return await store.append_many("session", "c", [NewEvent(f"{tag}+{n}") for n in range(3)])


async def _claimed(store: Store, tag: str) -> list[str]:
    writer = store.claim("session", f"own-{tag}")
    receipts = [writer.append(f"{tag}+{n}", final=n == 2) for n in range(3)]
    return [await receipt.durable() for receipt in receipts]


WRITERS: list[Operation] = [_shared, _several, _claimed]
OTHERS: list[Operation] = [call for name, call in (READS | WRITES).items() if name != "state.update"]


async def _give_up_sometime(call: asyncio.Task[Any], rng: Random) -> None:
    """Cancel a call at a random moment: after some steps of the loop, or some of the database's time."""
    for _ in range(rng.randrange(12)):
        await asyncio.sleep(0)
    if rng.random() < 0.7:
        await asyncio.sleep(rng.expovariate(1 / 0.003))
    call.cancel()


async def _one_round(store: Store, rng: Random, number: int) -> tuple[dict[str, Any], int, int]:
    """Run many calls at once, and give up half of them; return what became of the appends by their tags."""
    tags = [f"{number}.{n}{'x' * (n % 2)}" for n in range(CALLERS)]
    writes = {tag: asyncio.ensure_future(rng.choice(WRITERS)(store, tag)) for tag in tags}
    others = [asyncio.ensure_future(rng.choice(OTHERS)(store, tag)) for tag in tags]
    counting = [asyncio.ensure_future(_count(store)) for _ in range(4)]
    doomed = {task for task in [*writes.values(), *others, *counting] if rng.random() < 0.5}
    await asyncio.gather(*(_give_up_sometime(task, rng) for task in doomed))
    await bounded(*(_settled(task) for task in [*writes.values(), *others, *counting]))
    for task in [*writes.values(), *others, *counting]:
        assert task.cancelled() or task.exception() is None, task.exception()
        assert task in doomed or not task.cancelled()
    counted = sum(not task.cancelled() for task in counting)
    outcomes = {tag: None if task.cancelled() else task.result() for tag, task in writes.items()}
    return outcomes, counted, len(counting)


async def _settled(task: Awaitable[Any]) -> None:
    await asyncio.wait([asyncio.ensure_future(task)])


async def _count(store: Store) -> None:
    await store.state("session").update("count", lambda value: value + 1, 0)


async def _all_events(store: Store) -> dict[str, list[Event]]:
    """By stream; a gap is a failure."""
    found: dict[str, list[Event]] = {}
    async for info in store.streams("session"):
        items = await to_the_end(store, "session", stream_id=info.stream_id)
        found[info.stream_id] = [item for item in items if isinstance(item, Event)]
        assert [item.sequence for item in found[info.stream_id]] == list(range(1, len(items) + 1))
    return found


async def test_callers_that_give_up_disturb_nobody(database: Database, rng: Random, pools: Pools) -> None:
    store = await database.open(pool_size=3)
    await prepare(store)
    outcomes: dict[str, Any] = {}
    least = most = 0
    for number in range(ROUNDS):
        found, counted, asked = await _one_round(store, rng, number)
        outcomes |= found
        least, most = least + counted, most + asked
    # Whoever cancels a call may have been too late; the store goes on with those until their end.
    await use_everything(store, "after")
    events = [event for of_stream in (await _all_events(store)).values() for event in of_stream]
    stored = {event.message: event.event_id for event in events}
    assert len(stored) == len(events)
    for tag, ids in outcomes.items():
        if ids is not None:
            assert [stored.get(text) for text in _texts(tag, len(ids))] == ids
    assert least <= await store.state("session").get("count", 0) <= most
    given_up = sum(ids is None for ids in outcomes.values())
    await check_nothing_left(database, pools)
    check_intact(database)
    print(f"{len(outcomes)} appends, {given_up} of them given up; {len(events)} events")


def _texts(tag: str, count: int) -> list[str]:
    return [tag] if count == 1 else [f"{tag}+{n}" for n in range(count)]


async def _nobody_is_connected(database: Database) -> bool:
    if not database.is_postgres:
        return not any(thread.name.startswith("mcp-persist-sa") for thread in threading.enumerate())
    return await execute(database, f"SELECT count(*) FROM {CLIENTS}") == [(0,)]


async def test_opening_that_is_given_up_leaves_nothing_behind(sql_database: Database, rng: Random) -> None:
    for _ in range(15 * HUNT):
        store = Store(sql_database.dsn)
        opening = asyncio.ensure_future(store.open())
        await asyncio.sleep(rng.uniform(0, 0.1))
        opening.cancel()
        await bounded(_settled(opening))
        assert opening.cancelled() or opening.exception() is None
        await store.close()
    await eventually("nobody is connected", lambda: _nobody_is_connected(sql_database))
    await use_everything(await sql_database.open(), "after")


async def test_closing_that_is_given_up_closes_all_the_same(sql_database: Database, rng: Random) -> None:
    for _ in range(10 * HUNT):
        store = await Store(sql_database.dsn).open()
        await asyncio.gather(*(store.sessions.count() for _ in range(20)))
        receipts = [store.claim("session", f"{n}").append("x", final=True) for n in range(100)]
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(rng.uniform(0, 0.03))
        closing.cancel()
        await bounded(_settled(closing), *(receipt.durable() for receipt in receipts))
        assert closing.cancelled() or closing.exception() is None
        del store
    await eventually("nobody is connected", lambda: _nobody_is_connected(sql_database))
    await use_everything(await sql_database.open(), "after")


async def test_waits_for_room_in_a_full_queue_are_given_up_without_harm(
    database: Database, rng: Random, pools: Pools
) -> None:
    store = await database.open(max_queued_events=5)
    calls = {f"{n}": asyncio.ensure_future(store.append("session", "a", f"{n}")) for n in range(100)}
    doomed = [call for call in calls.values() if rng.random() < 0.5]
    await asyncio.gather(*(_give_up_sometime(call, rng) for call in doomed))
    await bounded(*(_settled(call) for call in calls.values()))
    stored = {event.message: event.event_id for event in (await _all_events(store))["a"]}
    for text, call in calls.items():
        assert call in doomed or not call.cancelled()
        if not call.cancelled():
            assert stored[text] == call.result()
    await check_nothing_left(database, pools)
