"""Each operation costs one round trip where the database allows it, and a use of a busy session none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import asyncpg
import pytest

from mcp_persist_sa import Event, NewEvent, Store, open_store
from tests.contract.support import Clock, fill
from tests.servers import FaultProxy, PostgresServer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def proxy(postgres_server: PostgresServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(postgres_server.host, postgres_server.port) as running:
        yield running


@pytest.fixture
async def store(proxy: FaultProxy, new_postgres: Callable[[], str], clock: Clock) -> AsyncIterator[Store]:
    """A store on one connection, through a proxy that counts; it tells other processes nothing."""
    async with open_store(proxy.dsn(new_postgres()), pool_size=1, clock=clock, background=False) as opened:
        yield opened


async def trips(proxy: FaultProxy, call: Callable[[], Awaitable[Any]]) -> int:
    """What a call costs once its statements are prepared."""
    for _ in range(2):
        await call()
    before = proxy.round_trips
    await call()
    return proxy.round_trips - before


async def each_is_one_trip(proxy: FaultProxy, store: Store) -> None:
    """Events are written, however many, and read in one round trip."""
    ids = await fill(store, "session", "1", 20)
    writer = store.claim("session", "2")
    await writer.append("x").durable()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.append("session", "1", "x"),
        lambda: store.append_many("session", "1", [NewEvent("x")] * 100),
        lambda: writer.append("x").durable(),
        lambda: store.claim("session", "3").append("x", final=True).durable(),
        lambda: store.read("session", after=ids[0]),
        lambda: store.read_before("session", ids[9]),
    ]
    assert [await trips(proxy, call) for call in calls] == [1] * len(calls)


async def a_burst_is_few_trips(proxy: FaultProxy, store: Store) -> None:
    """What arrives while a batch is stored is the next batch."""

    async def burst() -> None:
        await asyncio.gather(*(store.append(f"s{n % 5}", f"{n % 3}", "x") for n in range(100)))

    assert await trips(proxy, burst) <= 3


async def test_events_are_written_and_read_in_one_round_trip(proxy: FaultProxy, store: Store) -> None:
    await each_is_one_trip(proxy, store)


async def test_what_arrives_while_a_commit_runs_shares_the_next_round_trip(proxy: FaultProxy, store: Store) -> None:
    await a_burst_is_few_trips(proxy, store)


async def test_a_name_costs_one_round_trip_more_than_a_place(proxy: FaultProxy, store: Store) -> None:
    await fill(store, "session", "1", 3)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.read("session", stream_id="1"),
        lambda: store.recent("session", "1"),
        lambda: store.stream("session", "1"),
    ]
    assert [await trips(proxy, call) for call in calls] == [2, 2, 2]


async def test_a_page_is_on_its_way_while_the_one_before_it_is_used(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where events are taken without waiting for anything; the first page is short, and comes at once."""
    ids = await fill(store, "session", "1", 1500)
    sent, fetch = 0, asyncpg.Connection.fetch

    async def counted(connection: Any, *arguments: Any) -> Any:
        nonlocal sent
        sent += 1
        return await fetch(connection, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "fetch", counted)
    found: list[tuple[str, int]] = []
    async with aclosing(store.tail("session", after=ids[0])) as tail:
        while len(found) < 200:
            event = await anext(tail)
            assert isinstance(event, Event)
            found.append((event.event_id, sent))
    assert [event_id for event_id, _ in found] == ids[1:201]
    numbers = [number for _, number in found]
    assert numbers == [1] * 127 + [3] * 73


async def test_sessions_are_recorded_found_and_counted_in_one_round_trip(proxy: FaultProxy, store: Store) -> None:
    await store.sessions.create("session", owner="alice")
    calls: list[Callable[[], Awaitable[Any]]] = [
        store.sessions.create,
        lambda: store.sessions.get("session"),
        lambda: store.sessions.update("session", metadata={"a": 1}),
        lambda: store.sessions.list(owner="alice"),
        lambda: store.sessions.count(owner="alice"),
        lambda: store.sessions.close("session"),
    ]
    assert [await trips(proxy, call) for call in calls] == [1] * len(calls)


async def test_the_uses_of_a_busy_session_cost_nothing(proxy: FaultProxy, store: Store, clock: Clock) -> None:
    await store.sessions.create("session")
    await store.sessions.touch("session")
    before = proxy.round_trips
    for _ in range(1000):
        await store.sessions.touch("session")
    assert proxy.round_trips == before
    clock.advance(minutes=29)
    assert await trips(proxy, lambda: store.sessions.touch("session")) == 0
    assert (await store.sessions.get("session")).last_seen_at == clock.time


async def test_state_is_read_and_written_in_one_round_trip(proxy: FaultProxy, store: Store) -> None:
    state = store.state("session")
    await state.set("other", 1)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: state.set("key", 1),
        lambda: state.get("key"),
        lambda: state.entry("key"),
        state.keys,
        lambda: state.delete("key"),
        state.clear,
    ]
    assert [await trips(proxy, call) for call in calls] == [1] * len(calls)
    assert await trips(proxy, lambda: state.update("key", lambda value: value + 1, 0)) == 2


async def test_a_tail_that_is_woken_costs_one_round_trip_an_event(proxy: FaultProxy, store: Store) -> None:
    tail = store.tail("session", stream_id="1")
    await store.append("session", "1", "x")
    await anext(tail)

    async def follow() -> None:
        item = asyncio.ensure_future(anext(tail))
        await store.append("session", "1", "x")
        await item

    # One to write; to read, one, or one more where the tail looked while nothing was there.
    assert 2 <= await trips(proxy, follow) <= 3
    await tail.aclose()


async def test_other_processes_are_told_beside_and_a_burst_shares_what_is_sent(
    proxy: FaultProxy, new_postgres: Callable[[], str]
) -> None:
    async with open_store(proxy.dsn(new_postgres()), pool_size=1) as store:
        tail = store.tail("session", stream_id="1")
        await store.append("session", "1", "x")
        await anext(tail)
        await _listening(store)
        before = proxy.round_trips
        for _ in range(10):
            await asyncio.gather(*(store.append(f"s{n}", "1", "x") for n in range(100)))
        await tail.aclose()
        await store.close()
        # Each burst takes at most three batches, and ten or fewer messages of 100 streams.
        assert proxy.round_trips - before <= 10 * 3 + 10 * 3


async def _listening(store: Store) -> None:
    for _ in range(2000):
        if (await store.health()).notifier.mode == "listening":
            return
        await asyncio.sleep(0.01)
    raise AssertionError("other processes are not heard")
