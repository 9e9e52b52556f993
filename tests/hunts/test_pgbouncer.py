"""The whole store through a PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from mcp_persist_sa import Store, open_store, upgrade
from tests.databases import Database
from tests.hunts.load import Load
from tests.hunts.operations import use_everything
from tests.hunts.support import Pools, bounded, check_nothing_left
from tests.servers import ADVISORY_LOCKS, PgBouncer

CALLERS = 20
DETECTED: list[dict[str, Any]] = [{}, {"pgbouncer": True}]


@dataclass
class Pooled:
    """A database that the stores reach through PgBouncer."""

    database: Database
    direct: Database


@pytest.fixture
async def pooled(new_postgres: Callable[[], str], pgbouncer: PgBouncer) -> AsyncIterator[Pooled]:
    """A migrated database."""
    dsn = new_postgres()
    made = Pooled(Database("postgres", pgbouncer.dsn(dsn)), Database("postgres", dsn))
    yield made
    await made.database.close()


async def _through(dsn: str) -> Any:
    return await asyncpg.connect(dsn, statement_cache_size=0)


async def _prepared(dsn: str, servers: int = 4) -> dict[int, int]:
    """How many prepared statements each server connection of the pooler holds, by its process."""
    clients = [await _through(dsn) for _ in range(servers)]
    found: dict[int, int] = {}
    try:
        transactions = [client.transaction() for client in clients]
        for client, transaction in zip(clients, transactions, strict=True):
            # One that is in a transaction keeps its server connection, so that the next client meets another.
            await transaction.start()
            pid, count = await client.fetchrow("SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements)")
            found[pid] = count
        for transaction in transactions:
            await transaction.rollback()
    finally:
        for client in clients:
            await client.close()
    return found


@pytest.mark.parametrize("options", DETECTED, ids=["found out", "by option"])
async def test_everything_works_through_a_pooler_and_no_prepared_statement_is_left(
    pooled: Pooled, options: dict[str, Any], pools: Pools
) -> None:
    store = await pooled.database.open(pool_size=4, **options)
    await asyncio.gather(*(use_everything(store, f"caller-{n}") for n in range(CALLERS)))
    assert list((await _prepared(pooled.database.dsn)).values()) == [0, 0, 0, 0]
    await check_nothing_left(pooled.direct, pools)


async def test_what_is_written_under_load_through_a_pooler_is_there_once(pooled: Pooled, pools: Pools) -> None:
    load = Load(await pooled.database.open(pool_size=4))
    async with load.running():
        await load.progress(400)
    await load.check(pooled.direct)
    await check_nothing_left(pooled.direct, pools)


async def test_eight_stores_share_the_server_connections_of_a_pooler(pooled: Pooled, pools: Pools) -> None:
    stores = await asyncio.gather(*(pooled.database.open(pool_size=4) for _ in range(8)))
    await asyncio.gather(*(use_everything(store, f"node-{n}") for n, store in enumerate(stores)))
    await asyncio.gather(*(store.append("session", "1", f"{n}") for n, store in enumerate(stores)))
    assert len((await stores[0].read("session", stream_id="1")).events) == 8
    assert list((await _prepared(pooled.database.dsn)).values()) == [0, 0, 0, 0]
    await check_nothing_left(pooled.direct, pools)


async def test_without_a_pooler_statements_are_prepared_by_name(new_postgres: Callable[[], str]) -> None:
    """They are worth their while: the store must not take every server for a pooler."""
    dsn = new_postgres()
    async with open_store(dsn, pool_size=1) as store:
        count = await _prepared_by(store, dsn)
        assert count > 0
    async with open_store(dsn, pool_size=1, pgbouncer=True) as store:
        assert await _prepared_by(store, dsn) == 0


TELL = """
CREATE TABLE told (prepared int);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO told SELECT count(*) FROM pg_prepared_statements WHERE name <> ''; RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON mcp_events FOR EACH ROW EXECUTE FUNCTION tell();
"""


async def _prepared_by(store: Store, dsn: str) -> int:
    """How many statements the store's own server connection holds prepared when it appends."""
    connection = await _through(dsn)
    try:
        await connection.execute(f"DROP TABLE IF EXISTS told; DROP FUNCTION IF EXISTS tell CASCADE; {TELL}")
        for n in range(3):
            await store.append("session", "1", str(n))
        return await connection.fetchval("SELECT max(prepared) FROM told")
    finally:
        await connection.close()


async def test_tables_are_made_and_upgraded_through_a_pooler(postgres_database: str, pgbouncer: PgBouncer) -> None:
    dsn = pgbouncer.dsn(postgres_database)
    await bounded(*(upgrade(dsn) for _ in range(2)))
    stores = [open_store(dsn, migrate=True) for _ in range(8)]
    assert await bounded(*(store.open() for store in stores)) == stores
    await use_everything(stores[0], "after")
    for store in stores:
        await store.close()
    assert list((await _prepared(dsn)).values()) == [0, 0, 0, 0]
    connection = await _through(postgres_database)
    held = await connection.fetchval(ADVISORY_LOCKS)
    await connection.close()
    assert held == 0
