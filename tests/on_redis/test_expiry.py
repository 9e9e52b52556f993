"""What expires by itself: everything, where a time to live is set, and nothing that is still promised."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from mcp_persist_sa import HistoryLost, Store, UnknownEvent, open_store
from mcp_persist_sa.identity import session_key
from tests.contract.support import PATIENCE, fill, messages
from tests.servers.redis import RedisServer

MARGIN = 61.0
DAY = 24 * 60 * 60


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    with closing(server.client(decode_responses=True)) as client:
        yield client


def _key(session_id: str, part: str) -> str:
    return f"{{mcp:{session_key('', session_id)}}}:{part}"


async def _use_everything(store: Store) -> None:
    await store.join()
    for session_id in ("recorded", "unrecorded"):
        if session_id == "recorded":
            await store.sessions.create(session_id, owner="alice", tenant="acme", handshake={"a": 1})
        await fill(store, session_id, "1", 3)
        await fill(store, session_id, "2", 3, final=True)
        await store.claim(session_id, "3", will="{}").append("x").durable()
        await store.state(session_id).set("key", 1)
        await store.state(session_id).delete("key")
        await store.state(session_id).set("other", 1)
    await store.sessions.create("closed")
    await store.sessions.close("closed")
    await store.listen("recorded")


async def test_everything_expires(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, max_sessions=10) as store:
        await _use_everything(store)
        left = {key: client.ttl(key) for key in client.keys("*")}
        # Late enough for what is promised, and not much later.
        assert {key: ttl for key, ttl in left.items() if not 0 < ttl <= 7 * DAY + MARGIN} == {}
        for session_id in ("recorded", "unrecorded"):
            for key in client.keys(_key(session_id, "e:*")):
                assert DAY < left[key] < 1.02 * DAY + MARGIN
            assert 2 * DAY < left[_key(session_id, "t")] < 2.03 * DAY + MARGIN
        assert left[_key("recorded", "s")] >= left[_key("recorded", "t")]
        assert left[_key("closed", "s")] < 1830 + MARGIN


async def test_nothing_expires_without_a_time_to_live(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, session_ttl=None, event_ttl=None, state_ttl=None) as store:
        await _use_everything(store)
        gone = {key for key in client.keys("*") if client.ttl(key) > 0}
        # But the gates, the lease of the node, and a session that is closed.
        gates = {_key("recorded", "g"), _key("unrecorded", "g")}
        assert {key for key in gone if "node" not in key} == {*gates, _key("closed", "s"), "{mcp:index}:due"}


async def test_the_record_of_a_session_outlives_its_events(server: RedisServer, client: Any) -> None:
    """Or else what it has left would look like that of a session that was never recorded."""
    async with open_store(server.dsn, session_ttl=60) as store:
        await store.sessions.create("session")
        assert client.ttl(_key("session", "s")) < 60 + MARGIN
        await fill(store, "session", "1", 1)
        await store.sessions.touch("session")
        assert client.ttl(_key("session", "s")) >= client.ttl(_key("session", "t"))
        await store.sessions.close("session")
        assert client.ttl(_key("session", "s")) >= client.ttl(_key("session", "t"))


async def test_what_is_known_of_streams_lives_as_long_as_the_session(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, session_ttl=30 * DAY) as store:
        await store.sessions.create("session")
        ids = await fill(store, "session", "1", 2)
        await store.sessions.update("session", owner="alice")
        assert client.ttl(_key("session", "t")) > 29 * DAY
        client.delete(*client.keys(_key("session", "e:*")))
        assert (await store.read("session", after=ids[1])).items == ()


async def test_a_stream_whose_events_have_expired_tells_lost_history_from_nothing_new(
    server: RedisServer, client: Any
) -> None:
    async with open_store(server.dsn) as store:
        ids = await fill(store, "session", "1", 3)
        client.delete(*client.keys(_key("session", "e:*")))
        assert (await store.read("session", stream_id="1")).items == ()
        assert (await store.read("session", after=ids[2])).items == ()
        with pytest.raises(HistoryLost):
            await store.read("session", after=ids[1])
        new = await store.append("session", "1", "new")
        assert new.split(".")[1] == "4"
        assert messages(await store.read("session", after=ids[2])) == ["new"]
        assert client.ttl(client.keys(_key("session", "e:*"))[0]) > DAY
        info = await store.stream("session", "1")
        assert (info.count, info.last_sequence) == (1, 4)
        client.delete(_key("session", "t"))
        with pytest.raises(UnknownEvent):
            await store.read("session", after=new)


async def test_a_stream_that_never_rests_loses_its_oldest_events(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, event_ttl=60) as store:
        ids = await fill(store, "session", "1", 150)
        _make_older(client, "session", timedelta(hours=1))
        ids += await fill(store, "session", "1", 51)
        (events,) = client.keys(_key("session", "e:*"))
        assert client.llen(events) == 51
        assert len((await store.read("session", after=ids[149])).events) == 51
        with pytest.raises(HistoryLost):
            await store.read("session", after=ids[148])


def _make_older(client: Any, session_id: str, span: timedelta) -> None:
    """As if all that a session has were written some time ago."""
    micros = span // timedelta(microseconds=1)
    for key in client.keys(_key(session_id, "e:*")):
        for place, event in enumerate(client.lrange(key, 0, -1)):
            number, at, rest = event.split(":", 2)
            client.lset(key, place, f"{number}:{int(at) - micros}:{rest}")
    for name, text in client.hgetall(_key(session_id, "t")).items():
        if name.startswith("k"):
            fields = text.split(" ", 12)
            for place in (2, 6):
                fields[place] = str(int(fields[place]) - micros)
            client.hset(_key(session_id, "t"), name, " ".join(fields))


async def test_finished_streams_of_a_session_that_goes_on_are_forgotten(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, event_ttl=60) as store:
        await store.sessions.create("session")
        for n in range(20):
            await fill(store, "session", str(n), 2, final=n != 7)
        _make_older(client, "session", timedelta(hours=1))
        for n in range(20):
            await fill(store, "session", f"new {n}", 2, final=True)
        assert len([info async for info in store.streams("session")]) == 21
        assert client.llen(_key("session", "o")) == 21
        # What is known of a stream, and its name.
        assert client.hlen(_key("session", "t")) == 2 * 21
        assert (await store.stream("session", "7")).last_sequence == 2


async def test_the_index_does_not_grow_with_sessions_that_are_over(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, max_sessions=1000) as store:
        for n in range(20):
            await store.sessions.create(f"old{n}", owner="alice", tenant="acme")
            await fill(store, f"old{n}", "1", 1)
        for n in range(20):
            client.hset(_key(f"old{n}", "s"), "e", "1")
            client.zadd("{mcp:index}:due", {session_key("", f"old{n}"): 1})
        for n in range(20):
            await store.sessions.create(f"new{n}", owner="alice", tenant="acme")
        indexes = {key: client.zcard(key) for key in client.keys("{mcp:index}:*")}
        assert set(indexes.values()) == {20}
        assert len(indexes) == 5
        assert client.keys(_key("old3", "*")) == [_key("old3", "g")]
        assert await store.sessions.count(owner="alice") == 20


async def test_a_session_that_was_used_stays_when_others_are_removed(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn) as store:
        await store.sessions.create("used")
        client.zadd("{mcp:index}:due", {session_key("", "used"): 1})
        await store.sessions.create("another")
        assert (await store.sessions.get("used")).status == "open"
        assert client.zscore("{mcp:index}:due", session_key("", "used")) > 1


async def test_a_session_whose_record_is_gone_is_not_listed_and_leaves_the_index(
    server: RedisServer, client: Any
) -> None:
    async with open_store(server.dsn) as store:
        await store.sessions.create("gone")
        await store.sessions.create("kept")
        client.delete(_key("gone", "s"))
        member = session_key("", "gone")
        # It may be about to be recorded.
        assert [session.session_id async for session in store.sessions.all()] == ["kept"]
        assert client.zscore("{mcp:index}:all", member) is not None
        client.zadd("{mcp:index}:all", {member: 1})
        assert [session.session_id async for session in store.sessions.all()] == ["kept"]
        assert client.zscore("{mcp:index}:all", member) is None


async def test_a_lease_goes_by_itself(server: RedisServer, client: Any) -> None:
    async with open_store(server.dsn, node_lease=5) as store:
        await store.join()
        assert 3600 < client.ttl("{mcp:nodes}") <= 3605 + MARGIN
        await asyncio.wait_for(store.close(), PATIENCE)
        assert client.keys("{mcp:node*") == []
