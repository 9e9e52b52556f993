"""Servers that are killed while many write: nothing is lost, doubled or out of order, and nobody hangs."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.databases import Database
from tests.hunts.load import Load
from tests.hunts.support import HUNT
from tests.on_redis.conftest import ALWAYS, EVERY_SECOND, NewServer
from tests.servers import FaultProxy

KILLS = 3 * HUNT


@pytest.mark.parametrize("settings", [ALWAYS, EVERY_SECOND], ids=["always", "everysec"])
async def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(
    new_server: NewServer, settings: dict[str, str], rng: Random
) -> None:
    server = new_server(settings)
    database = Database("redis", f"{server.dsn}?key_prefix=hunt")
    load = Load(await database.open(timeout=60))
    async with load.running():
        for _ in range(KILLS):
            await load.progress(rng.randrange(200))
            await asyncio.sleep(rng.uniform(0, 0.01))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
    await load.check(database)
    await database.close()
    print(f"{KILLS} kills: {len(load.acknowledged)} events, {load.counted} counted, {load.uncertain} uncertain")


async def test_connections_that_are_cut_under_load_lose_and_double_nothing(new_server: NewServer, rng: Random) -> None:
    server = new_server(ALWAYS)
    async with FaultProxy(server.host, server.port) as proxy:
        database = Database("redis", f"redis://{proxy.host}:{proxy.port}/0?key_prefix=hunt")
        load = Load(await database.open(timeout=60))
        async with load.running():
            for _ in range(10 * KILLS):
                await load.progress(rng.randrange(100))
                await asyncio.sleep(rng.uniform(0, 0.005))
                proxy.cut()
        await load.check(database)
        await database.close()
