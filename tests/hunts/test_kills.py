"""Writers and servers that are killed: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from random import Random

import asyncpg
import pytest

from mcp_persist_sa import open_store, upgrade
from tests.contract.support import execute
from tests.databases import Database
from tests.hunts.load import Load
from tests.hunts.processes import WriterProcess
from tests.hunts.support import (
    CLIENTS,
    HUNT,
    Pools,
    check_intact,
    check_no_lock,
    check_nothing_left,
    check_once,
    check_order,
    check_streams,
    eventually,
    stored_rows,
)
from tests.servers import PostgresServer

KILLS = 10 * HUNT
BACKEND_KILLS = 4 * HUNT
RESTARTS = 3 * HUNT


async def _kill_at_a_random_moment(database: Database, name: str, rng: Random) -> dict[str, str]:
    """Let a writer write, kill it, and give what it has acknowledged."""
    async with WriterProcess(database, name) as victim:
        await victim.begin()
        await victim.follow(rng.randrange(150))
        # No event to wait for: the moment between two acknowledgements is what is random.
        await asyncio.sleep(rng.uniform(0, 0.01))
        await victim.kill_now()
        return victim.acknowledged


async def test_what_a_killed_writer_acknowledged_is_there_once(
    distinct_database: Database, rng: Random, pools: Pools
) -> None:
    async with WriterProcess(distinct_database, "survivor") as survivor:
        await survivor.begin()
        acknowledged: dict[str, str] = {}
        for n in range(KILLS):
            killed = asyncio.ensure_future(_kill_at_a_random_moment(distinct_database, f"w{n}", rng))
            while not killed.done():
                await survivor.follow(1)
            acknowledged |= await killed
            await survivor.follow(5)
        await survivor.finish()
    acknowledged |= survivor.acknowledged
    rows = await stored_rows(distinct_database)
    # Also the streams that a killed process owned: they may have lost their end, and nothing before it.
    check_streams(rows)
    check_once(rows, acknowledged)
    check_order(rows)
    check_intact(distinct_database)
    await check_nothing_left(distinct_database, pools)
    more = len(rows) - len(acknowledged)
    print(f"{KILLS} kills: {len(acknowledged)} events acknowledged, {more} stored that nobody was told of")


async def test_a_process_that_is_killed_while_it_creates_the_file_leaves_one_that_can_be_opened(
    tmp_path: Path, rng: Random
) -> None:
    for n in range(4 * HUNT):
        database = Database("sqlite", f"sqlite:///{tmp_path / f'{n}.db'}")
        async with WriterProcess(database, "victim") as victim:
            await victim.wait_for_line("opening")
            await asyncio.sleep(rng.uniform(0, 0.15))
            await victim.kill()
        async with open_store(database.dsn) as store:
            await store.append("session", "1", "first")
        check_intact(database)
        check_no_lock(database)


# Postgres


@pytest.fixture
async def own_database(own_postgres: PostgresServer) -> Database:
    """A migrated database on a server that may be killed."""
    dsn = own_postgres.create_database("hunt")
    await upgrade(dsn)
    return Database("postgres", dsn)


async def _backend_pids(database: Database) -> list[int]:
    """The server processes of the store's connections; none while the server recovers."""
    try:
        return [pid for (pid,) in await execute(database, f"SELECT pid FROM {CLIENTS} ORDER BY pid")]
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return []


async def test_server_processes_that_are_killed_under_load_lose_and_double_nothing(
    own_database: Database, rng: Random, pools: Pools
) -> None:
    store = await own_database.open(timeout=60, pool_size=4)
    load = Load(store)
    async with load.running():
        for _ in range(BACKEND_KILLS):
            await load.progress(rng.randrange(200))
            await asyncio.sleep(rng.uniform(0, 0.01))
            pids: list[int] = []
            while not pids:
                pids = await _backend_pids(own_database)
            if rng.random() < 0.5:
                await execute(own_database, f"SELECT pg_terminate_backend({rng.choice(pids)})")
            else:
                os.kill(rng.choice(pids), signal.SIGKILL)
    await eventually("the server has recovered", lambda: _answers(own_database))
    await load.check(own_database)
    await check_nothing_left(own_database, pools)
    await own_database.close()
    print(f"{BACKEND_KILLS} server processes killed: {len(load.acknowledged)} events, {load.counted} counted")


async def _answers(database: Database) -> bool:
    return bool(await _backend_pids(database))


async def test_a_server_that_restarts_under_load_loses_and_doubles_nothing(
    own_database: Database, own_postgres: PostgresServer, rng: Random, pools: Pools
) -> None:
    store = await own_database.open(timeout=60, pool_size=4)
    load = Load(store)
    async with load.running():
        for _ in range(RESTARTS):
            await load.progress(rng.randrange(200))
            await asyncio.sleep(rng.uniform(0, 0.01))
            await asyncio.to_thread(rng.choice([own_postgres.stop, own_postgres.kill]))
            await asyncio.to_thread(own_postgres.start)
    await load.check(own_database)
    await check_nothing_left(own_database, pools)
    await own_database.close()
    print(f"{RESTARTS} restarts: {len(load.acknowledged)} events, {load.counted} counted")
