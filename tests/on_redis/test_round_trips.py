"""Each operation costs one round trip; what changes a session one more, for the index is in another slot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mcp_persist_sa import Store, open_store
from tests.servers import FaultProxy, RedisServer
from tests.test_round_trips import a_burst_is_few_trips, each_is_one_trip, trips

Calls = list[Callable[[], Awaitable[Any]]]


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.host, server.port) as running:
        yield running


@pytest.fixture
async def store(proxy: FaultProxy) -> AsyncIterator[Store]:
    """A store on one connection, through a proxy that counts; it tells other processes nothing."""
    async with open_store(f"redis://{proxy.host}:{proxy.port}/0", pool_size=1, background=False) as opened:
        yield opened


async def test_events_are_written_and_read_in_one_round_trip(proxy: FaultProxy, store: Store) -> None:
    await each_is_one_trip(proxy, store)


async def test_what_arrives_while_a_batch_is_stored_shares_the_next_round_trip(proxy: FaultProxy, store: Store) -> None:
    await a_burst_is_few_trips(proxy, store)


async def test_sessions_cost_one_more_where_the_index_has_to_know(proxy: FaultProxy, store: Store) -> None:
    await store.sessions.create("session", owner="alice")
    state = store.state("session")
    await state.set("other", 1)
    alone: Calls = [
        lambda: store.sessions.get("session"),
        lambda: state.set("key", 1),
        lambda: state.entry("key"),
        state.keys,
        lambda: state.delete("key"),
        state.clear,
    ]
    assert [await trips(proxy, call) for call in alone] == [1] * len(alone)
    known: Calls = [store.sessions.create, lambda: store.sessions.update("session", metadata={"a": 1})]
    assert [await trips(proxy, call) for call in known] == [2] * len(known)
    # The index, and the records of all that it has, together; then that it has no more.
    assert await trips(proxy, lambda: store.sessions.list(owner="alice")) <= 3
