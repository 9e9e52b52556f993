"""What a restart or a failover takes back: ids are not given again, and whoever comes with one is told."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import Any

import pytest

from mcp_persist_sa import HistoryLost, InvalidOption, OutcomeUnknown, PersistError, Store, UnknownEvent, open_store
from tests.contract.support import PATIENCE, fill, messages, rest
from tests.on_redis.conftest import ALWAYS, EVERY_SECOND, NewServer, until
from tests.servers.redis import RedisServer
from tests.servers.spawning import poll

SESSIONS = 20
SNAPSHOTS = {"appendonly": "no", "save": "3600 1"}


async def _lost(store: Store, session: str, event_id: str) -> bool:
    try:
        await store.read(session, after=event_id)
    except (HistoryLost, UnknownEvent):
        return True
    return False


@pytest.mark.parametrize("settings", [ALWAYS, EVERY_SECOND], ids=["always", "everysec"])
async def test_with_a_log_a_killed_server_loses_nothing(new_server: NewServer, settings: dict[str, str]) -> None:
    """Also with everysec: what is written to the log outlives the process, though not a power cut."""
    server = new_server(settings)
    async with open_store(server.dsn) as store:
        session = await store.sessions.create("session", owner="alice")
        ids = await fill(store, "session", "1", 50)
        writer = store.claim("session", "2")
        ids += [await writer.append(str(n)).durable() for n in range(50)]
        await store.state("session").set("key", "value")
        server.kill()
        server.start()
        ids += [await store.append("session", "1", "after"), await writer.append("after").durable()]
        found = [event for name in "12" for event in (await store.read("session", stream_id=name)).events]
        assert {event.event_id for event in found} == set(ids)
        assert await store.sessions.get("session") == session
        assert await store.state("session").get("key") == "value"


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
        assert [await _lost(store, "session", event_id) for event_id in lost + gone] == [True] * 5
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
        assert [await _lost(store, "session", event_id) for event_id in lost] == [True, True]


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
        if settings is SNAPSHOTS or server.choice.startswith("Redis 7.0"):
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


class Traffic:
    """A session that is written to and followed, until it is told to stop.

    Attributes:
        ids: The event ids that were acknowledged.
    """

    def __init__(self, store: Store, session: str) -> None:
        self.ids: list[str] = []
        self.session = session
        self._store = store
        self._stopped = False
        self._tail = asyncio.ensure_future(_collect(store, session))
        self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while not self._stopped:
            self.ids.append(await self._store.append(self.session, "1", str(len(self.ids))))
        self.ids.append(await self._store.append(self.session, "1", "end", final=True))

    async def ended(self) -> None:
        """What was lost is said to be, and whoever follows was told the end, or that."""
        self._stopped = True
        await asyncio.wait_for(self._writing, PATIENCE)
        stored = await _all_of(self._store, self.session)
        assert [event_id for event_id in self.ids if event_id in stored] == stored
        lost = [event_id for event_id in self.ids if event_id not in stored]
        assert all([await _lost(self._store, self.session, event_id) for event_id in lost])
        assert (await asyncio.wait_for(self._tail, PATIENCE))[-1] in ("end", "HistoryLost")


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
        await until(lambda: all(len(each.ids) > 20 for each in all_of_them))
        # Of a stream that never came there, nobody could tell a lost event from a forged one.
        await until(lambda: _streams(replica) == SESSIONS)
        master.kill()
        await until(lambda: _is_master(replica))
        before = [len(each.ids) for each in all_of_them]
        await until(lambda: all(len(each.ids) > count + 20 for each, count in zip(all_of_them, before, strict=True)))
        await asyncio.gather(*(each.ended() for each in all_of_them))
        given = [event_id for each in all_of_them for event_id in each.ids]
        assert len(set(given)) == len(given)


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


async def _all_of(store: Store, session: str) -> list[str]:
    page = await store.read(session, stream_id="1")
    found = [event.event_id for event in page.events]
    while page.more:
        page = await store.read(session, after=page.event_id)
        found += [event.event_id for event in page.events]
    return found


async def _collect(store: Store, session: str) -> list[str | None]:
    seen: list[str | None] = []
    try:
        async for item in store.tail(session, "1"):
            seen.append(getattr(item, "message", None))  # noqa: PERF401 - what came before an error counts
    except HistoryLost:
        seen.append("HistoryLost")
    return seen
