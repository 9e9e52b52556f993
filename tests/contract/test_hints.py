"""Whoever waits is woken by what other nodes do, and by nothing else: nobody looks again by itself for an hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import pytest

from mcp_persist_sa import Event, Gap, Store, StoreClosed
from mcp_persist_sa.identity import EventId
from mcp_persist_sa.streams import Tail
from mcp_persist_sa.stretches import Stretch
from tests.contract.support import PATIENCE, execute, fill, rest, take
from tests.databases import ALL, Database

NEVER = 3600.0
KINDS = [kind for kind in ALL if kind != "sqlite-memory"]


@pytest.fixture(params=KINDS)
async def nodes(request: pytest.FixtureRequest, new_database: Callable[[str], Database]) -> AsyncIterator[Database]:
    """Each kind that several nodes can open, also by engines of their own."""
    database = new_database(request.param)
    yield database
    await database.close()


class Reads:
    """Counts the pages that tails read."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, read: Callable[..., Awaitable[Stretch]]) -> Callable[..., Awaitable[Stretch]]:
        async def counted(tail: Tail, place: EventId, **options: Any) -> Stretch:
            self.count += 1
            return await read(tail, place, **options)

        return counted


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    counting = Reads()
    monkeypatch.setattr(Tail, "read", counting.of(Tail.read))
    return counting


async def _hears(store: Store, tails: int = 1) -> None:
    """Wait until so many tails wait for hints, and those of other nodes are heard."""

    async def work() -> None:
        while True:
            now = (await store.health()).notifier
            if now.mode == "listening" and now.waiters == tails:
                return
            await asyncio.sleep(0.005)

    await asyncio.wait_for(work(), PATIENCE)


def _tail(store: Store, session_id: str = "session") -> asyncio.Future[list[Event | Gap]]:
    return asyncio.ensure_future(rest(store.tail(session_id, "1")))


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
async def test_what_another_node_appends_is_heard(nodes: Database, begun: bool) -> None:
    reader, writer = await nodes.open(poll_interval=NEVER), await nodes.open()
    if begun:
        await fill(writer, "session", "1", 3)
    tail = _tail(reader)
    await _hears(reader)
    for n in range(20):
        await writer.append("session", "1", str(n), final=n == 19)
    assert len(await tail) == (23 if begun else 20)


async def test_what_another_node_appends_to_a_stream_of_its_own_is_heard(nodes: Database) -> None:
    reader, node = await nodes.open(poll_interval=NEVER), await nodes.open()
    tail = _tail(reader)
    await _hears(reader)
    writer = node.claim("session", "1")
    for n in range(20):
        await writer.append(str(n), final=n == 19).durable()
    assert len(await tail) == 20


@pytest.mark.parametrize("how", ["close", "delete"])
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
async def test_the_end_of_a_session_at_another_node_is_heard(nodes: Database, how: str, begun: bool) -> None:
    reader, other = await nodes.open(poll_interval=NEVER), await nodes.open()
    await other.sessions.create("session")
    await other.sessions.create("another")
    if begun:
        await fill(other, "session", "1", 2)
    tails = [_tail(reader), _tail(reader, "another")]
    await _hears(reader, tails=2)
    await (other.sessions.close if how == "close" else other.sessions.delete)("session")
    await asyncio.wait({tails[0]}, timeout=PATIENCE)
    assert [tail.done() for tail in tails] == [True, False]
    await other.sessions.close("another")
    assert await tails[1] == []
    await asyncio.gather(*tails, return_exceptions=True)


async def test_every_node_is_woken_and_the_writer_s_own_tails_too(nodes: Database) -> None:
    stores = [await nodes.open(poll_interval=NEVER) for _ in range(3)]
    tails = [_tail(store) for store in stores for _ in range(5)]
    for store in stores:
        await _hears(store, tails=5)
    for n in range(10):
        await stores[n % 3].append("session", "1", str(n), final=n == 9)
    assert {tuple(items) for items in await asyncio.gather(*tails)} == {tuple(await tails[0])}


@pytest.mark.parametrize("what", ["an event", "another stream", "the end"])
async def test_that_something_of_a_session_has_changed_is_heard(nodes: Database, what: str) -> None:
    reader, other = await nodes.open(poll_interval=NEVER), await nodes.open()
    await other.sessions.create("session")
    await fill(other, "session", "1", 2)
    async with aclosing(reader.changes("session")) as changes:
        await asyncio.wait_for(anext(changes), PATIENCE)
        news = asyncio.ensure_future(anext(changes))
        await _hears(reader)
        if what == "the end":
            await other.sessions.close("session")
        else:
            await other.append("session", "1" if what == "an event" else "2", "{}")
        await asyncio.wait_for(news, PATIENCE)


async def test_whoever_waits_is_told_that_the_store_was_closed(nodes: Database) -> None:
    store = await nodes.open(poll_interval=NEVER)
    await fill(store, "session", "1", 1)
    items = store.changes("session"), store.tail("session", "1"), store.tail("session", "2")
    waiting = [asyncio.ensure_future(rest(each)) for each in items]
    await _hears(store, len(waiting))
    await store.close()
    for each in waiting:
        with pytest.raises(StoreClosed):
            await asyncio.wait_for(each, PATIENCE)


# What is read in vain


async def _following(
    stack: AsyncExitStack, store: Store, writer: Store, sessions: int
) -> list[AsyncGenerator[object, None]]:
    """Tails, one a session, which have seen two events: while one knows of none, a late hint makes it look twice."""
    tails: list[AsyncGenerator[object, None]] = []
    for n in range(sessions):
        await writer.sessions.create(f"session-{n}")
        tails.append(await stack.enter_async_context(aclosing(store.tail(f"session-{n}", "1"))))
    for text in ("first", "second"):
        taken = [asyncio.ensure_future(take(tail, 1)) for tail in tails]
        await _hears(store, sessions)
        for n in range(sessions):
            await writer.append(f"session-{n}", "1", text)
        await asyncio.gather(*taken)
    return tails


async def test_a_tail_is_not_woken_by_what_another_node_writes_to_other_sessions_and_streams(
    nodes: Database, reads: Reads
) -> None:
    reader, writer = await nodes.open(poll_interval=NEVER), await nodes.open()
    async with AsyncExitStack() as stack:
        tails = await _following(stack, reader, writer, 30)
        following = [asyncio.ensure_future(take(tail, 1)) for tail in tails[1:]]
        before = reads.count
        for n in range(20):
            await writer.append("session-1", "another stream", str(n))
            await writer.state("session-2").set("key", n)
            await writer.append("session-0", "1", str(n))
            await take(tails[0], 1)
        assert reads.count - before == 20
        assert not [each for each in following if each.done()]
        for each in following:
            each.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def test_a_tail_is_woken_once_by_what_its_own_node_writes(nodes: Database, reads: Reads) -> None:
    store = await nodes.open(poll_interval=NEVER)
    async with AsyncExitStack() as stack:
        (tail,) = await _following(stack, store, store, 1)
        before = reads.count
        for n in range(20):
            await store.append("session-0", "1", str(n))
            await take(tail, 1)
        assert reads.count - before == 20


async def test_other_namespaces_are_not_woken(nodes: Database, reads: Reads) -> None:
    reader, writer = await nodes.open(poll_interval=NEVER), await nodes.open()
    stranger = await nodes.open(namespace="stranger")
    async with AsyncExitStack() as stack:
        (tail,) = await _following(stack, reader, writer, 1)
        before = reads.count
        for n in range(10):
            await stranger.append("session-0", "1", str(n))
        await writer.append("session-0", "1", "x")
        await take(tail, 1)
        assert reads.count - before == 1


async def test_connections_do_not_grow_with_tails(new_postgres: Callable[[], str]) -> None:
    database = Database("postgres", new_postgres())
    reader, writer = await database.open(poll_interval=NEVER, pool_size=3), await database.open(pool_size=1)
    tails = [_tail(reader, f"session-{n}") for n in range(200)]
    await _hears(reader, 200)
    for n in range(200):
        await writer.append(f"session-{n}", "1", "x", final=True)
    await asyncio.gather(*tails)
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert (await execute(database, count))[0][0] <= (3 + 1) + (1 + 1)
    await database.close()
    assert await execute(database, count) == [(0,)]


# How it is


async def test_a_store_says_how_it_is(nodes: Database) -> None:
    store = await nodes.open()
    tail = _tail(store)
    await _hears(store)
    health = await store.health()
    assert (health.reachable, health.error, health.revision) == (
        True,
        None,
        None if nodes.is_redis else "mcp_persist_sa_0001",
    )
    assert 0 < health.latency < PATIENCE
    assert (health.notifier.waiters, health.notifier.reconnects) == (1, 0)
    assert health.notifier.since.tzinfo is not None
    await store.append("session", "1", "x", final=True)
    await tail
    assert (await store.health()).notifier.waiters == 0
    await store.close()
    with pytest.raises(StoreClosed):
        await store.health()


async def test_without_a_background_a_store_polls_and_others_are_heard_all_the_same(nodes: Database) -> None:
    reader, writer = await nodes.open(background=False), await nodes.open()
    tail = _tail(reader)
    for n in range(5):
        await writer.append("session", "1", str(n), final=n == 4)
    assert len(await tail) == 5
    assert (await reader.health()).notifier.mode == "polling"


async def test_in_memory_nobody_else_is_waited_for() -> None:
    database = Database("sqlite-memory", "sqlite://")
    store = await database.open(poll_interval=NEVER)
    tail = _tail(store)
    assert (await store.health()).notifier.mode == "local"
    await store.append("session", "1", "x", final=True)
    assert len(await tail) == 1
    await database.close()
