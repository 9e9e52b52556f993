"""A request that the network holds back, and that arrives when the store has sent it again already."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from mcp_persist_sa import NewEvent, Store, open_store
from tests.contract.support import execute
from tests.hunts.conftest import Proxied
from tests.hunts.support import (
    CLIENTS,
    PATIENCE,
    Pools,
    check_nothing_left,
    check_once,
    check_streams,
    eventually,
    stored_rows,
)
from tests.servers import FaultProxy

Write = Callable[[Store], Awaitable[dict[str, str]]]
"""Appends, and gives messages by event id."""


async def _one(store: Store) -> dict[str, str]:
    return {await store.append("session", "shared", "held"): "held"}


async def _many_at_once(store: Store) -> dict[str, str]:
    texts = [f"held {n}" for n in range(20)]
    ids = await asyncio.gather(*(store.append("session", f"shared-{n % 3}", text) for n, text in enumerate(texts)))
    return dict(zip(ids, texts, strict=True))


async def _with_an_end(store: Store) -> dict[str, str]:
    texts = [f"held {n}" for n in range(3)]
    ids = await store.append_many("session", "shared", [NewEvent(text, text is texts[-1]) for text in texts])
    return dict(zip(ids, texts, strict=True))


async def _claimed(store: Store) -> dict[str, str]:
    writer = store.claim("session", "own")
    texts = [f"held {n}" for n in range(3)]
    receipts = [writer.append(text, final=text is texts[-1]) for text in texts]
    return {await receipt.durable(): text for receipt, text in zip(receipts, texts, strict=True)}


async def _mixed(store: Store) -> dict[str, str]:
    claimed, shared = await asyncio.gather(_claimed(store), _one(store))
    return claimed | shared


WRITES = pytest.mark.parametrize("write", [_one, _many_at_once, _with_an_end, _claimed, _mixed])


@WRITES
async def test_a_request_that_arrives_when_it_was_sent_again_is_done_once(
    proxied: Proxied, pools: Pools, write: Write
) -> None:
    store = await proxied.database.open(pool_size=1, background=False, connect_args={"command_timeout": 0.3})
    # Once prepared, a statement is one request, which is done when it arrives.
    before = {await store.append("session", "shared", "before"): "before"}
    before[await store.claim("session", "before").append("before, claimed", final=True).durable()] = "before, claimed"
    proxied.proxy.black_hole()
    writing = asyncio.ensure_future(write(store))
    await proxied.proxy.wait_until(lambda proxy: proxy.held > 0)
    # The same address leads around the black hole from now on.
    proxied.proxy.refuse()
    async with FaultProxy(proxied.proxy.server_host, proxied.proxy.server_port) as detour:
        detour.refuse()
        detour.port = proxied.proxy.port
        detour.pass_through()
        acknowledged = before | await asyncio.wait_for(writing, PATIENCE)
        acknowledged[await store.append("session", "shared", "after")] = "after"
        rows = await stored_rows(proxied.direct)
        detour.refuse()
        proxied.proxy.pass_through()
        await proxied.proxy.wait_until(lambda proxy: proxy.connections == 0)
        # The server does what has arrived before it notices that nobody is there.
        await eventually("the old server process has ended", lambda: _is_connected(proxied, 1))
        assert await stored_rows(proxied.direct) == rows
        check_streams(rows)
        check_once(rows, acknowledged, acknowledged.values())
        await check_nothing_left(proxied.direct, pools)
        await proxied.database.close()


async def _is_connected(proxied: Proxied, count: int) -> bool:
    return await execute(proxied.direct, f"SELECT count(*) FROM {CLIENTS}") == [(count,)]


@asynccontextmanager
async def _locked(proxied: Proxied, statement: str) -> AsyncGenerator[Any]:
    """Hold a lock on which the store's statement has to wait in the server."""
    connection: Any = await asyncpg.connect(proxied.direct.dsn)
    try:
        async with connection.transaction():
            await connection.execute(statement)
            yield connection
    finally:
        await connection.close()


HOLD_COMMITS = """
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON mcp_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION hold();
"""
LOCKS = {
    "a stream": "SELECT FROM mcp_streams FOR UPDATE",
    "the events": "LOCK TABLE mcp_events IN SHARE MODE",
    "the writers": "LOCK TABLE mcp_writers IN SHARE MODE",
    "the commit": "SELECT pg_advisory_xact_lock(42)",
}
BLOCKED = [
    *(("a stream", write) for write in (_one, _mixed)),
    *(("the events", write) for write in (_many_at_once, _claimed)),
    ("the writers", _with_an_end),
    *(("the commit", write) for write in (_one, _many_at_once, _with_an_end, _claimed, _mixed)),
]


@pytest.mark.parametrize(("lock", "write"), BLOCKED)
async def test_a_request_that_is_still_under_way_when_it_is_sent_again_is_done_once(
    proxied: Proxied, pools: Pools, write: Write, lock: str
) -> None:
    """The connection breaks, the server goes on with what it was sent, and the next request meets it there."""
    store = await proxied.database.open()
    await store.append("session", "shared", "before")
    if lock == "the commit":
        await _hold_commits(proxied)
    async with _locked(proxied, LOCKS[lock]):
        writing = asyncio.ensure_future(write(store))
        await eventually("the first request waits", lambda: _this_many_wait(proxied, 1))
        proxied.proxy.cut()
        await eventually("the second waits too", lambda: _this_many_wait(proxied, 2))
    acknowledged = await asyncio.wait_for(writing, PATIENCE)
    acknowledged[await store.append("session", "shared", "after")] = "after"
    await eventually("the first request was done", lambda: _this_many_wait(proxied, 0))
    rows = await stored_rows(proxied.direct)
    check_streams(rows)
    check_once(rows, acknowledged)
    assert len(rows) == len(acknowledged) + 1
    await check_nothing_left(proxied.direct, pools)


async def _this_many_wait(proxied: Proxied, count: int) -> bool:
    query = f"SELECT count(*) FROM {CLIENTS} AND wait_event_type = 'Lock'"
    return await execute(proxied.direct, query) == [(count,)]


async def _hold_commits(proxied: Proxied) -> None:
    """Let every transaction that inserts events wait for a lock when it is about to commit."""
    connection: Any = await asyncpg.connect(proxied.direct.dsn)
    try:
        await connection.execute(HOLD_COMMITS)
    finally:
        await connection.close()


_SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF new.message = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN new; END $$
"""
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "shared"])
async def test_an_append_under_way_while_its_session_is_deleted_leaves_nothing(
    new_postgres: Callable[[], str], claimed: bool
) -> None:
    dsn = new_postgres()
    async with open_store(dsn) as writing, open_store(dsn) as deleting, _held(dsn) as held:
        await deleting.sessions.create("session")
        writer = writing.claim("session", "1")
        await (writer.append("first").durable() if claimed else writing.append("session", "1", "first"))
        work = writer.append("slow").durable() if claimed else writing.append("session", "1", "slow")
        slow = asyncio.ensure_future(work)

        async def waiting() -> int:
            return await held.fetchval(_WAITING)

        async def deletion_waits() -> bool:
            return deletion.done() or await waiting() == 2

        async def append_waits() -> bool:
            return await waiting() == 1

        await eventually("the append is in the middle of its statement", append_waits)
        deletion = asyncio.ensure_future(deleting.sessions.delete("session"))
        await eventually("the deletion is over or waits for the append", deletion_waits)
        await held.execute("SELECT pg_advisory_unlock(1)")
        await asyncio.gather(slow, deletion, return_exceptions=True)
        assert await held.fetchval("SELECT count(*) FROM mcp_events") == 0


@asynccontextmanager
async def _held(dsn: str) -> AsyncGenerator[Any, None]:
    """A connection that holds back every insertion of an event that is called slow."""
    connection: Any = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        await connection.execute(_SLOW)
        await connection.execute("CREATE TRIGGER slow BEFORE INSERT ON mcp_events FOR EACH ROW EXECUTE FUNCTION slow()")
        await connection.execute("SELECT pg_advisory_lock(1)")
        yield connection
    finally:
        await connection.close()
