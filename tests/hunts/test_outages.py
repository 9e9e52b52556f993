"""A server that is slow, silent, gone or starting again: every call ends, and afterwards everything works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from mcp_persist_sa import Event, Gap, OutcomeUnknown, Overloaded, PersistError, Store, StoreUnavailable, upgrade
from tests.contract.support import execute, to_the_end
from tests.databases import Database
from tests.hunts.operations import OPERATIONS, READS, WRITES, prepare, use_everything
from tests.hunts.support import (
    CLIENTS,
    PATIENCE,
    Pools,
    bounded,
    check_nothing_left,
    check_once,
    eventually,
    stored_rows,
)
from tests.servers import FaultProxy, PostgresServer
from tests.servers.dsns import Dsn

POOL = 4
QUEUE = 40
APPLICATION = "impatient"
IMPATIENT: dict[str, Any] = {
    "timeout": 1,
    "connect_timeout": 0.5,
    "poll_interval": 0.05,
    "pool_size": POOL,
    "max_queued_events": QUEUE,
    "connect_args": {"server_settings": {"application_name": APPLICATION}},
}
ENDING = {name: call for name, call in (READS | WRITES | OPERATIONS).items() if name != "claim"}
"""The calls that end; the reads, which find a connection that seems alive, first."""


@dataclass
class Outage:
    """A database whose server, or the way to it, fails on command.

    Attributes:
        database: As the stores reach it.
        direct: As the test reaches it, when there is no fault.
        begin: Makes the fault.
        end: Ends it.
    """

    database: Database
    direct: Database
    begin: Callable[[], None]
    end: Callable[[], None]


def _through(proxy: FaultProxy, kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
    def refuse() -> None:
        proxy.refuse()
        proxy.cut()

    def cut_the_hole() -> None:
        proxy.cut()
        proxy.pass_through()

    return {
        "refused": (refuse, proxy.pass_through),
        "a black hole that lets go": (proxy.black_hole, proxy.pass_through),
        "a black hole that swallows": (proxy.black_hole, cut_the_hole),
    }[kind]


def _of_server(server: PostgresServer, kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
    return {"paused": (server.pause, server.resume), "killed": (server.kill, server.start)}[kind]


THROUGH_PROXY = ["refused", "a black hole that lets go", "a black hole that swallows"]
OF_SERVER = ["paused", "killed"]


@asynccontextmanager
async def _on_the_way(dsn: str, kind: str) -> AsyncGenerator[Outage]:
    address = Dsn.parse(dsn)
    async with FaultProxy(address.host, address.port) as proxy:
        database = Database("postgres", proxy.dsn(dsn))
        yield Outage(database, Database("postgres", dsn), *_through(proxy, kind))
        proxy.pass_through()
        await database.close()


@asynccontextmanager
async def _of_the_server(server: PostgresServer, kind: str) -> AsyncGenerator[Outage]:
    dsn = server.create_database("hunt")
    await upgrade(dsn)
    database = Database("postgres", dsn)
    yield Outage(database, database, *_of_server(server, kind))
    await database.close()


@pytest.fixture(params=THROUGH_PROXY)
async def interruption(request: pytest.FixtureRequest, new_postgres: Callable[[], str]) -> AsyncIterator[Outage]:
    """A migrated Postgres database with a fault to inflict on the way to it."""
    async with _on_the_way(new_postgres(), request.param) as made:
        yield made


@pytest.fixture(params=THROUGH_PROXY + OF_SERVER)
async def outage(request: pytest.FixtureRequest) -> AsyncIterator[Outage]:
    """A migrated Postgres database with a fault to inflict on it or on the way to it."""
    if request.param in OF_SERVER:
        making = _of_the_server(request.getfixturevalue("own_postgres"), request.param)
    else:
        making = _on_the_way(request.getfixturevalue("new_postgres")(), request.param)
    async with making as made:
        yield made


async def _open(outage: Outage) -> Store:
    """A store that does not wait for long; on a busy machine it may take more than one attempt to open it."""
    while True:
        try:
            return await outage.database.open(**IMPATIENT)
        except StoreUnavailable:
            continue


async def test_during_an_outage_every_call_ends_with_an_error_that_says_so(outage: Outage, pools: Pools) -> None:
    await prepare(await outage.database.open())
    store = await _open(outage)
    await _use_the_pool(store)
    outage.begin()
    waiting = store.claim("session", "own").append("claimed")
    calls = [call(store, f"during.{n}") for n, call in enumerate(ENDING.values())]
    outcomes = dict(zip(ENDING, await bounded(*calls), strict=True))
    succeeded = {name: found for name, found in outcomes.items() if not isinstance(found, StoreUnavailable)}
    assert not succeeded
    assert not [name for name in READS if isinstance(outcomes[name], OutcomeUnknown)]
    outage.end()
    await _works_again(store, outage, pools)
    # Whoever claims a stream need not wait, and may wait for as long as it takes.
    acknowledged = {await asyncio.wait_for(waiting.durable(), PATIENCE): "claimed"}
    check_once(await stored_rows(outage.direct), acknowledged)


async def _use_the_pool(store: Store) -> None:
    """Open as many connections as the store may have."""
    await bounded(*(store.sessions.count() for _ in range(4 * POOL)))


async def _works_again(store: Store, outage: Outage, pools: Pools) -> None:
    """Not at once: a server that was killed recovers, and the first calls meet connections that have died."""
    names = (f"after-{n}" for n in count())
    await eventually("everything works", lambda: _works(store, next(names)))
    await bounded(*(store.append("session", "1", next(names)) for _ in range(4 * POOL)), _use_the_pool(store))
    await eventually("everything works", lambda: _works(store, next(names)))
    await check_nothing_left(outage.direct, pools)
    await eventually("no connection is left over", lambda: _at_most(outage, POOL + 1))


async def _works(store: Store, name: str) -> bool:
    try:
        await use_everything(store, name)
    except StoreUnavailable:
        return False
    return True


async def _at_most(outage: Outage, most: int) -> bool:
    query = f"SELECT count(*) FROM {CLIENTS} AND application_name = '{APPLICATION}'"
    return (await execute(outage.direct, query))[0][0] <= most


async def test_what_a_claimed_stream_queues_during_an_outage_is_stored_afterwards_and_the_rest_is_a_gap(
    outage: Outage, pools: Pools
) -> None:
    store = await _open(outage)
    writer = store.claim("session", "own")
    receipts = [writer.append("before")]
    await receipts[0].durable()
    outage.begin()
    texts = ["before", *(f"during {n}" for n in range(QUEUE))]
    receipts += [writer.append(text) for text in texts[1:]]
    for _ in range(3):
        with pytest.raises(Overloaded):
            writer.append("too much")
    outcomes = await bounded(store.append("session", "1", "too much"), store.append("session", "2", "too much"))
    assert [type(outcome) for outcome in outcomes] == [Overloaded, Overloaded]
    assert [receipt.stored for receipt in receipts] == [True] + QUEUE * [False]
    outage.end()
    ids = await bounded(*(receipt.durable() for receipt in receipts))
    ids.append(await writer.append("after", final=True).durable())
    await _works_again(store, outage, pools)
    items = await to_the_end(await outage.database.open(), "session", stream_id="own")
    assert [item.event_id for item in items if isinstance(item, Event)] == ids
    gap = Gap(QUEUE + 2, QUEUE + 4)
    assert [item.message if isinstance(item, Event) else item for item in items] == [*texts, gap, "after"]


async def test_a_stream_that_is_claimed_when_the_queue_is_full_begins_with_a_gap(interruption: Outage) -> None:
    store = await _open(interruption)
    first, second = store.claim("session", "first"), store.claim("session", "second")
    interruption.begin()
    receipts = [first.append(str(n)) for n in range(QUEUE)]
    with pytest.raises(Overloaded):
        second.append("too much")
    interruption.end()
    await bounded(*(receipt.durable() for receipt in receipts))
    await asyncio.wait_for(second.append("after").durable(), PATIENCE)
    page = await (await interruption.database.open()).read("session", stream_id="second")
    assert [item if isinstance(item, Gap) else item.message for item in page.items] == [Gap(1, 1), "after"]


async def test_an_event_that_was_under_way_when_its_caller_gave_up_is_not_denied(interruption: Outage) -> None:
    store = await _open(interruption)
    await _use_the_pool(store)
    interruption.begin()
    (error,) = await bounded(store.append("session", "1", "held"))
    interruption.end()
    assert isinstance(error, OutcomeUnknown)


async def test_a_tail_that_an_outage_breaks_is_resumed_without_loss(interruption: Outage) -> None:
    patient, store = await interruption.database.open(), await _open(interruption)
    first = await patient.append("session", "1", "first")
    tail = store.tail("session", after=first)
    following = asyncio.ensure_future(bounded(anext(tail)))
    await asyncio.sleep(0)
    interruption.begin()
    (error,) = await following
    assert isinstance(error, StoreUnavailable)
    interruption.end()
    await patient.append("session", "1", "second", final=True)
    rest = [item async for item in patient.tail("session", after=first)]
    assert [item.message for item in rest if isinstance(item, Event)] == ["second"]


async def test_a_store_is_closed_during_an_outage_and_tells_what_it_could_not_store(interruption: Outage) -> None:
    store = await _open(interruption)
    await _use_the_pool(store)
    writer = store.claim("session", "own")
    interruption.begin()
    receipts = [writer.append(str(n)) for n in range(3)]
    (closed,) = await bounded(store.close())
    assert closed is None
    for outcome in await bounded(*(receipt.durable() for receipt in receipts)):
        assert isinstance(outcome, PersistError)
    interruption.end()


async def test_a_store_with_nothing_to_do_is_closed_during_an_outage(interruption: Outage) -> None:
    store = await _open(interruption)
    await _use_the_pool(store)
    interruption.begin()
    (closed,) = await bounded(store.close())
    assert closed is None
    interruption.end()


async def test_a_store_that_is_opened_during_an_outage_says_so(interruption: Outage, pools: Pools) -> None:
    interruption.begin()
    (error,) = await bounded(interruption.database.open(**IMPATIENT))
    assert isinstance(error, StoreUnavailable)
    interruption.end()
    await _works_again(await _open(interruption), interruption, pools)


async def test_a_slow_network_is_only_slow(new_postgres: Callable[[], str], pools: Pools) -> None:
    dsn = new_postgres()
    address = Dsn.parse(dsn)
    async with FaultProxy(address.host, address.port) as proxy:
        database = Database("postgres", proxy.dsn(dsn))
        store = await database.open()
        await prepare(store)
        proxy.delay(0.01)
        outcomes = await bounded(*(call(store, f"slow.{n}") for n, call in enumerate(OPERATIONS.values())))
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        await check_nothing_left(Database("postgres", dsn), pools)
        await database.close()
