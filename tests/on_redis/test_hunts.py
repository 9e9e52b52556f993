"""Servers that are killed while many write: nothing is lost, doubled or out of order, and nobody hangs."""

from __future__ import annotations

import asyncio
from contextlib import closing
from random import Random

from mcp_persist_sa import open_store
from tests.databases import Database
from tests.hunts.load import Load
from tests.hunts.support import HUNT
from tests.on_redis.conftest import ALWAYS, SNAPSHOTS, NewServer
from tests.on_redis.traffic import SESSIONS, Traffic, check, progress
from tests.servers import FaultProxy
from tests.servers.redis import RedisServer

KILLS = 3 * HUNT


async def test_a_server_that_is_killed_under_load_loses_and_doubles_nothing(new_server: NewServer, rng: Random) -> None:
    server = new_server(ALWAYS)
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


async def test_a_server_that_takes_back_what_it_acknowledged_hangs_nobody_and_gives_no_id_again(
    new_server: NewServer, rng: Random
) -> None:
    server = new_server(SNAPSHOTS)
    async with open_store(server.dsn, timeout=60) as store:
        all_of_them = [Traffic(store, f"session-{n}") for n in range(SESSIONS)]
        for number in range(KILLS):
            await progress(all_of_them, rng.randrange(20))
            # Of a stream that was never saved, nobody could tell a lost event from a forged one.
            if number == 0 or rng.random() < 0.5:
                await asyncio.to_thread(save, server)
                await progress(all_of_them, rng.randrange(20))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
        await progress(all_of_them)
        lost = await check(all_of_them)
    assert lost
    print(f"{KILLS} kills: {sum(len(each.ids) for each in all_of_them)} events, {lost} lost, and said to be")


def save(server: RedisServer) -> None:
    with closing(server.client()) as client:
        client.save()


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
