"""What a restart or a failover takes back: ids are not given again, and whoever comes with one is told."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import Any

import pytest

from mcp_persist_sa import HistoryLost, InvalidOption, OutcomeUnknown, PersistError, open_store
from tests.contract.support import PATIENCE, fill, messages, rest
from tests.on_redis.conftest import ALWAYS, EVERY_SECOND, SNAPSHOTS, NewServer, until
from tests.on_redis.traffic import SESSIONS, Traffic, check, is_lost, progress
from tests.servers.redis import RedisServer
from tests.servers.spawning import poll


@pytest.mark.parametrize("settings", [ALWAYS, EVERY_SECOND], ids=["always", "everysec"])
async def test_with_a_log_a_killed_server_loses_nothing(new_server: NewServer, settings: dict[str, str]) -> None:
    """With everysec that is only what it has written: while the disk is busy, it waits with that for two seconds."""
    server = new_server(settings)
    async with open_store(server.dsn) as store:
        session = await store.sessions.create("session", owner="alice")
        ids = await fill(store, "session", "1", 50)
        writer = store.claim("session", "2")
        ids += [await writer.append(str(n)).durable() for n in range(50)]
        await store.state("session").set("key", "value")
        await until(lambda: has_written(server))
        server.kill()
        server.start()
        ids += [await store.append("session", "1", "after"), await writer.append("after").durable()]
        found = [event for name in "12" for event in (await store.read("session", stream_id=name)).events]
        assert {event.event_id for event in found} == set(ids)
        assert await store.sessions.get("session") == session
        assert await store.state("session").get("key") == "value"


def has_written(server: RedisServer) -> bool:
    """Whether all that a server has acknowledged has been given to the operating system."""
    with closing(server.client()) as client:
        info: Any = client.info("persistence")
        return info["aof_buffer_length"] == 0


async def test_what_a_snapshot_does_not_have_is_lost_history(new_server: NewServer) -> None:
    server = new_server(SNAPSHOTS)
    async with open_store(server.dsn) as store:
        kept = await fill(store, "session", "1", 3)
        with closing(server.client()) as client:
            client.save()
        lost = await fill(store, "session", "1", 3)
        gone = await fill(store, "session", "2", 2)
        server.kill()
        server.start()
        new = [await store.append("session", "1", f"new {n}") for n in range(5)]
        assert not {*kept, *lost, *gone} & set(new)
        assert [event_id.split(".")[1] for event_id in new[:3]] == [event_id.split(".")[1] for event_id in lost]
        assert [await is_lost(store, "session", event_id) for event_id in lost + gone] == [True] * 5
        with pytest.raises(HistoryLost):
            await rest(store.tail("session", after=lost[0]))
        assert messages(await store.read("session", after=kept[2])) == [f"new {n}" for n in range(5)]


async def test_a_claimed_stream_that_was_rolled_back_has_a_gap_or_is_refused(new_server: NewServer) -> None:
    server = new_server(SNAPSHOTS)
    async with open_store(server.dsn) as store:
        writer, other = store.claim("session", "1"), store.claim("session", "2")
        first = await writer.append("1").durable()
        with closing(server.client()) as client:
            client.save()
        lost = [await writer.append("2").durable(), await writer.append("3").durable()]
        await other.append("1").durable()
        server.kill()
        server.start()
        await writer.append("4", final=True).durable()
        with pytest.raises(PersistError, match="was deleted"):
            await other.append("2").durable()
        items = (await store.read("session", after=first)).items
        assert [getattr(item, "sequence", None) or tuple(item) for item in items] == [(2, 3), 4]
        assert [await is_lost(store, "session", event_id) for event_id in lost] == [True, True]


# Durability that is demanded


@pytest.fixture
def pair(new_server: NewServer) -> tuple[RedisServer, RedisServer]:
    """A master and its replica."""
    master = new_server(ALWAYS)
    return master, _replica(new_server, master)


def _replica(new_server: NewServer, master: RedisServer) -> RedisServer:
    replica = new_server({**ALWAYS, "replicaof": f"{master.host} {master.port}"})

    def is_linked() -> bool:
        with closing(replica.client()) as client:
            info: Any = client.info("replication")
            return info["master_link_status"] == "up"

    poll(is_linked, "the replica follows its master", timeout=30)
    return replica


async def test_a_write_can_wait_for_replicas(pair: tuple[RedisServer, RedisServer]) -> None:
    master, replica = pair
    hasty = open_store(master.dsn, wait_replicas=1, timeout=2)
    async with hasty, open_store(master.dsn, wait_replicas=1) as store:
        ids = await fill(store, "session", "1", 3)
        replica.kill()
        with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
            await hasty.state("session").set("key", 1)
        waiting = asyncio.ensure_future(store.append("session", "1", "later"))
        await asyncio.sleep(0)
        replica.start()
        ids.append(await asyncio.wait_for(waiting, PATIENCE))
        assert [event.event_id for event in (await store.read("session", stream_id="1")).events] == ids


async def test_a_write_can_wait_for_the_disk(new_server: NewServer) -> None:
    for settings in (SNAPSHOTS, EVERY_SECOND):
        server = new_server(settings)
        store = open_store(server.dsn, wait_aof=True)
        if settings is SNAPSHOTS or server.choice.startswith(("Redis 6.2", "Redis 7.0")):
            with pytest.raises(InvalidOption, match=r"wait_aof needs Redis 7\.2"):
                await store.open()
        else:
            async with store:
                assert len(await fill(store, "session", "1", 3)) == 3


# What is said when a server is opened


async def test_a_server_that_keeps_nothing_is_warned_of(
    new_server: NewServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server({"appendonly": "no", "save": "", "maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"})
    async with open_store(server.dsn):
        warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert ["nothing to disk" in warnings[0], "allkeys-lru" in warnings[1], len(warnings)] == [True, True, 2]


async def test_a_server_that_keeps_what_it_is_given_is_not_warned_of(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(server.dsn):
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Sentinel


async def test_a_failover_under_load_hangs_nobody_and_gives_no_id_again(new_server: NewServer) -> None:
    master = new_server(ALWAYS)
    replica = _replica(new_server, master)
    watched = {
        "sentinel monitor shop": f"{master.host} {master.port} 1",
        "sentinel down-after-milliseconds shop": "500",
        "sentinel failover-timeout shop": "5000",
    }
    sentinel = new_server(watched, sentinel=True)
    await until(lambda: _replicas(sentinel) == 1)
    async with open_store(f"redis+sentinel://{sentinel.host}:{sentinel.port}/shop", timeout=60) as store:
        all_of_them = [Traffic(store, f"session-{n}") for n in range(SESSIONS)]
        await progress(all_of_them)
        # Of a stream that never came there, nobody could tell a lost event from a forged one.
        await until(lambda: _streams(replica) == SESSIONS)
        master.kill()
        await until(lambda: _is_master(replica))
        await progress(all_of_them)
        await check(all_of_them)


def _replicas(sentinel: RedisServer) -> int:
    with closing(sentinel.client()) as client:
        found: Any = client.execute_command("SENTINEL REPLICAS", "shop")
        return len(found)


def _streams(server: RedisServer) -> int:
    with closing(server.client()) as client:
        return sum(1 for _ in client.scan_iter("*:t"))


def _is_master(server: RedisServer) -> bool:
    with closing(server.client()) as client:
        info: Any = client.info("replication")
        return info["role"] == "master"
