"""What only Postgres does: days of 23 hours, and rows that change while a statement waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from mcp_persist_sa import Purged, Store
from tests.contract.support import PATIENCE, Clock, fill
from tests.databases import Database
from tests.hunts.support import eventually

DAY = 86_400
SHORT_NIGHT = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
"""In the next night clocks of Berlin skip an hour."""


@pytest.fixture
async def database(new_database: Callable[[str], Database]) -> AsyncIterator[Database]:
    """A database whose connections have Berlin's time zone."""
    database = new_database("postgres")
    async with connected(database) as connection:
        await connection.execute(f"ALTER DATABASE {urlsplit(database.dsn).path[1:]} SET timezone = 'Europe/Berlin'")
    yield database
    await database.close()


@asynccontextmanager
async def connected(database: Database) -> AsyncGenerator[Any, None]:
    connection: Any = await asyncpg.connect(database.dsn, timeout=PATIENCE)
    try:
        yield connection
    finally:
        await connection.close(timeout=PATIENCE)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.time = SHORT_NIGHT
    return clock


async def test_a_day_has_24_hours_in_every_time_zone(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=DAY, event_ttl=DAY)
    session = await store.sessions.create("session")
    assert session.expires_at == SHORT_NIGHT + timedelta(days=1)
    await fill(store, "session", "1", 3)
    clock.advance(seconds=DAY - 1)
    assert await store.purgeable() == await store.purge() == Purged()
    assert len((await store.read("session", stream_id="1")).events) == 3
    clock.advance(seconds=1)
    assert await store.purge() == Purged(sessions=1, streams=1, events=3)


async def test_a_policy_s_day_has_24_hours_in_every_time_zone(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=2 * DAY, event_ttl=2 * DAY)
    await store.policies.set("acme", session_ttl=DAY - DAY / 10, event_ttl=DAY)
    await store.sessions.create("session", tenant="acme")
    await fill(store, "session", "1", 3)
    clock.advance(seconds=DAY - 1)
    assert await store.purgeable() == await asyncio.wait_for(store.purge(), PATIENCE) == Purged()
    clock.advance(seconds=1)
    assert await asyncio.wait_for(store.purge(), PATIENCE) == Purged(sessions=1, streams=1, events=3)


async def test_a_session_that_is_used_while_it_is_to_expire_is_kept(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.policies.set("acme", session_ttl=60)
    await store.sessions.create("session", tenant="acme")
    now = clock.advance(minutes=10)
    async with connected(database) as user, connected(database) as looker:
        async with user.transaction():
            await user.execute("UPDATE mcp_sessions SET last_seen_at = $1", now)
            purging = asyncio.ensure_future(store.purge())
            await somebody_waits(looker)
        assert await asyncio.wait_for(purging, PATIENCE) == Purged()
    assert (await store.sessions.get("session")).expires_at is not None


async def test_the_time_of_an_event_is_that_after_the_wait_for_its_stream(database: Database) -> None:
    """Or an event would be older than those before it, which another node has stored meanwhile."""
    store = await database.open()
    async with held_up(database, store) as looker:
        meanwhile = await looker.fetchval("SELECT clock_timestamp()")
    assert (await store.read("session", stream_id="1")).events[-1].created_at > meanwhile


async def test_who_waits_for_the_pool_gets_what_is_given_back(database: Database) -> None:
    """It does not stay at hand for the next event while there is no other connection."""
    store = await database.open(pool_size=1, timeout=5)
    async with held_up(database, store) as looker:
        creating = asyncio.ensure_future(store.sessions.create("session"))
        await somebody_waits(looker)
    await asyncio.wait_for(creating, PATIENCE)


@asynccontextmanager
async def held_up(database: Database, store: Store) -> AsyncGenerator[Any, None]:
    """Within it, an append waits for its stream; behind it, it is stored. Gives a connection to look with."""
    await fill(store, "session", "1", 1)
    async with connected(database) as other, connected(database) as looker:
        async with other.transaction():
            await other.execute("SELECT 1 FROM mcp_streams FOR UPDATE")
            appending = asyncio.ensure_future(store.append("session", "1", "2"))
            await somebody_waits(looker)
            yield looker
        await asyncio.wait_for(appending, PATIENCE)


async def somebody_waits(looker: Any) -> None:
    """Wait until a statement waits for a lock of another one."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    async def waits() -> bool:
        return await looker.fetchval(waiting) == 1

    await eventually("a statement waits", waits)
