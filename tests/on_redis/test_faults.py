"""Faults between the store and the server: nothing hangs, nothing is stored twice, nothing is said that is not so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio import RedisCluster as ClusterClient
from redis.exceptions import NoPermissionError

from mcp_persist_sa import (
    AccessDenied,
    Event,
    NewEvent,
    OutcomeUnknown,
    Page,
    PersistError,
    SessionExists,
    Store,
    StoreUnavailable,
    StreamNotFound,
    open_store,
)
from mcp_persist_sa.backends.redis.callers import Callers
from mcp_persist_sa.backends.redis.cluster import ClusterWire
from mcp_persist_sa.backends.redis.scripts import APPEND, INDEX, PARCEL, SESSION, STATE
from mcp_persist_sa.backends.redis.server import Call, Durability, Server, Value
from mcp_persist_sa.batches import Append, Gate, Place
from mcp_persist_sa.checks import new_append
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.identity import EventId, session_key
from mcp_persist_sa.opening_redis import open_redis
from mcp_persist_sa.options import Options
from tests.contract.support import PATIENCE, rest
from tests.on_redis.conftest import NewServer
from tests.servers import FaultProxy, RedisServer, contains
from tests.servers.redis import RedisCluster, binary_of


def _answered(answer: bytes) -> bool:
    """Whether Redis has begun to answer: what it answers, it has done."""
    return bool(answer)


def _of(script: Any) -> Callable[[bytes], bool]:
    return contains(script.digest.encode())


@pytest.fixture
async def proxy(server: RedisServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.host, server.port) as proxy:
        yield proxy


def _dsn(proxy: FaultProxy) -> str:
    return f"redis://{proxy.host}:{proxy.port}/0"


@pytest.fixture
async def store(proxy: FaultProxy) -> AsyncIterator[Store]:
    """Through the proxy, with all scripts known to the server."""
    async with open_store(_dsn(proxy), background=False) as store:
        await store.sessions.create("warm")
        await store.append("warm", "1", "x")
        await store.state("warm").set("key", 1)
        yield store


def _messages(page: Page) -> list[str | None]:
    return [event.message for event in page.events]


# Replies that are lost


@pytest.mark.parametrize("times", [1, 3])
async def test_events_whose_reply_was_lost_are_stored_once(store: Store, proxy: FaultProxy, times: int) -> None:
    done = proxy.cut_after_request(_of(APPEND), times, _answered)
    calls = [store.append("session", str(n % 3), str(n)) for n in range(30)]
    ids = await asyncio.gather(*calls)
    assert done.is_set()
    found = [event for name in "012" for event in (await store.read("session", stream_id=name)).events]
    assert {event.event_id for event in found} == set(ids)
    assert len(found) == 30


async def test_claimed_events_whose_reply_was_lost_are_stored_once(store: Store, proxy: FaultProxy) -> None:
    done = proxy.cut_after_request(_of(APPEND), 2, _answered)
    writer = store.claim("session", "1")
    receipts = [writer.append(str(n), final=n == 9) for n in range(10)]
    ids = [await receipt.durable() for receipt in receipts]
    assert done.is_set()
    page = await store.read("session", stream_id="1")
    assert [event.event_id for event in page.events] == ids
    assert page.finished


async def test_a_claim_that_was_refused_and_whose_reply_was_lost_is_refused(store: Store, proxy: FaultProxy) -> None:
    await store.claim("session", "1").append("mine").durable()
    done = proxy.cut_after_request(_of(APPEND), 1, _answered)
    with pytest.raises(PersistError, match="writer of its own"):
        await store.append("session", "1", "not mine")
    assert done.is_set()
    assert _messages(await store.read("session", stream_id="1")) == ["mine"]


async def test_what_may_be_stored_and_is_then_not_allowed_may_be_stored(
    store: Store, proxy: FaultProxy, server: RedisServer
) -> None:
    def denied_from_now_on(answer: bytes) -> bool:
        if answer:
            _set_right(server, "-evalsha")
        return bool(answer)

    proxy.cut_after_request(_of(APPEND), 1, denied_from_now_on)
    with pytest.raises(OutcomeUnknown, match="permission"):
        await store.append("session", "1", "x")
    _set_right(server, "+evalsha")
    assert _messages(await store.read("session", stream_id="1")) == ["x"]


def _group(session: str, message: str) -> Append:
    return new_append(session_key("", session), "1", [NewEvent(message)], 1000)


async def test_a_batch_that_arrives_late_is_not_stored_again(server: RedisServer) -> None:
    """It was sent twice, and the server is given the first sending when the second and the next batch are stored."""
    backend, _ = await open_redis(parse(server.dsn), Options())
    first = [_group("session", "a"), _group("other", "b"), _group("session", "c")]
    places = await backend.append(first, Gate("writer", 1))
    assert await backend.append(first, Gate("writer", 1)) == places
    await backend.append([_group("session", "d")], Gate("writer", 2))
    late = await backend.append(first, Gate("writer", 1))
    assert isinstance(late[0], OutcomeUnknown)
    assert late[1] == places[1]
    beginning = EventId(places[0].stream_key if isinstance(places[0], Place) else "", 0, "")
    found = await backend.read(session_key("", "session"), beginning, limit=10, max_bytes=1000)
    assert _messages(found.page()) == ["a", "c", "d"]
    await backend.close()


async def test_the_gate_forgets_writers_that_are_gone(server: RedisServer) -> None:
    backend, _ = await open_redis(parse(server.dsn), Options())
    await backend.append([_group("session", "a")], Gate("writer", 1))
    with server.client() as client:
        gate = f"{{mcp:{session_key('', 'session')}}}:g"
        for n in range(100):
            client.hset(gate, f"writer{n}", "7 1000000")
        await backend.close()
        backend, _ = await open_redis(parse(server.dsn), Options())
        await backend.append([_group("session", "b")], Gate("other", 1))
        assert client.hlen(gate) == 2
        assert 0 < int(client.pttl(gate)) <= 2 * 3_600_000  # type: ignore[arg-type]
    await backend.close()


async def test_a_value_whose_reply_was_lost_is_written_once(store: Store, proxy: FaultProxy) -> None:
    state = store.state("session")
    proxy.cut_after_request(_of(STATE), 1, _answered)
    assert await state.set("key", "a") == 1
    proxy.cut_after_request(_of(STATE), 1, _answered)
    assert await state.compare_and_set("key", "b", version=1) == 2
    entry = await state.entry("key")
    assert entry is not None
    assert (entry.value, entry.version) == ("b", 2)


async def test_a_session_whose_reply_was_lost_is_recorded_once(store: Store, proxy: FaultProxy) -> None:
    for script in (SESSION, INDEX):
        proxy.cut_after_request(_of(script), 1, _answered)
        made = await store.sessions.create(owner=script.digest)
        listed = [session async for session in store.sessions.all(owner=script.digest)]
        assert listed == [made]


async def test_a_session_with_a_given_id_may_have_been_recorded(store: Store, proxy: FaultProxy) -> None:
    proxy.cut_after_request(_of(SESSION), 1, _answered)
    with pytest.raises(OutcomeUnknown):
        await store.sessions.create("given")
    with pytest.raises(SessionExists):
        await store.sessions.create("given")


async def test_a_session_is_listed_although_its_entry_was_lost(store: Store, proxy: FaultProxy) -> None:
    """It is entered when it is used."""
    made = await store.sessions.create("given", owner="alice")
    for key in [key async for key in _keys(proxy, "index*")]:
        await _delete(proxy, key)
    assert [session async for session in store.sessions.all()] == []
    await store.sessions.update("given", tenant="acme")
    assert [session.session_id async for session in store.sessions.all(owner="alice")] == [made.session_id]
    assert await store.sessions.count(tenant="acme") == 1


async def _keys(proxy: FaultProxy, pattern: str) -> AsyncIterator[bytes]:
    async with Redis(host=proxy.server_host, port=proxy.server_port) as client:
        async for key in client.scan_iter(match=f"{{mcp:{pattern}"):
            yield key


async def _delete(proxy: FaultProxy, key: bytes) -> None:
    async with Redis(host=proxy.server_host, port=proxy.server_port) as client:
        await client.delete(key)


# A server that is away


async def test_a_call_waits_for_a_server_that_comes_back(store: Store, server: RedisServer) -> None:
    ids = [await store.append("session", "1", "before")]
    server.kill()
    waiting = [
        asyncio.ensure_future(call)
        for call in (store.append("session", "1", "after"), store.sessions.create(), store.state("s").set("k", 1))
    ]
    await asyncio.sleep(0)
    server.start()
    results = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert _messages(await store.read("session", after=ids[0])) == ["after"]
    assert results[2] == 1


@pytest.mark.parametrize("how", ["refuse", "black_hole"])
async def test_a_server_that_stays_away_is_told_in_time(proxy: FaultProxy, how: str) -> None:
    async with open_store(_dsn(proxy), background=False, timeout=0.3, connect_timeout=0.2) as store:
        await store.append("session", "1", "x")
        getattr(proxy, how)()
        proxy.cut()
        calls: list[Awaitable[object]] = [
            store.append("session", "1", "y"),
            store.read("session", stream_id="1"),
            store.sessions.create(),
            store.sessions.list(),
            store.state("session").get("key"),
            store.purge(),
        ]
        results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), PATIENCE)
        assert [type(result) for result in results if not isinstance(result, StoreUnavailable)] == []
        proxy.pass_through()


async def test_300_callers_at_once_fail_nowhere(server: RedisServer) -> None:
    async with open_store(server.dsn) as store:

        async def caller(n: int) -> None:
            session = await store.sessions.create(owner=str(n))
            ids = [await store.append(session.session_id, "1", str(k)) for k in range(3)]
            assert len((await store.read(session.session_id, after=ids[0])).events) == 2
            await store.state(session.session_id).update("count", lambda count: (count or 0) + 1)

        await asyncio.gather(*(caller(n) for n in range(300)))
        with server.client() as client:
            connected: Any = client.info("clients")
        # The calls' connections, the notifier's, and that of this test.
        assert connected["connected_clients"] <= store.options.pool_size + 3
        assert await store.sessions.count() == 300


async def test_a_server_that_cannot_be_reached_is_told_when_it_is_opened() -> None:
    with pytest.raises(StoreUnavailable, match=r"Opening redis://127.0.0.1:1/0"):
        await open_store("redis://127.0.0.1:1/0", timeout=0.2).open()


async def test_a_cluster_that_is_away_is_told_whatever_is_asked() -> None:
    client = ClusterClient(host="127.0.0.1", port=1)
    server = Server(ClusterWire(client, 1), timeout=0.2, durability=Durability(replicas=0, on_disk=False))

    async def scan() -> list[list[bytes]]:
        return [keys async for keys in server.scan("*")]

    for call in (scan(), server.ask(["INFO"]), server.read(Call(SESSION, ["key"], ["", "get"]))):
        with pytest.raises(StoreUnavailable):
            await call
    await client.aclose()


async def test_what_a_server_of_a_cluster_does_not_allow_is_not_said_of_what_another_has_stored() -> None:
    may_be_there: dict[type, list[list[str | None]]] = {str: [["x"]], AccessDenied: [[]], OutcomeUnknown: [["x"], []]}
    cluster = RedisCluster(binary_of("valkey-cluster"))
    with closing(cluster):
        cluster.start()
        async with open_store(f"{cluster.dsn}?timeout=1") as store:
            _set_right(cluster.nodes[0], "-evalsha")
            calls = [store.append(f"{n}", "1", "x") for n in range(30)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            _set_right(cluster.nodes[0], "+evalsha")
            assert any(isinstance(result, Exception) for result in results)
            for n, result in enumerate(results):
                assert await _stored(store, f"{n}") in may_be_there[type(result)]


class _Halfway:
    """A way to servers of which one does not allow what another has done."""

    is_split = True
    callers = Callers(1)

    def __init__(self) -> None:
        self.exchanges = 0

    async def exchange(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        self.exchanges += 1
        return [b"1", NoPermissionError("no permissions to run the 'evalsha' command")]

    ask: Any = None
    scan: Any = None
    close: Any = None


async def test_what_is_half_done_and_not_allowed_is_told_at_once() -> None:
    wire = _Halfway()
    server = Server(wire, timeout=2 * PATIENCE, durability=Durability(replicas=0, on_disk=False))
    with pytest.raises(OutcomeUnknown, match="A part of it is written"):
        await asyncio.wait_for(server.write(*[Call(PARCEL, ["key"], [])] * 2), PATIENCE)
    assert wire.exchanges == 1


async def _stored(store: Store, session_id: str) -> list[str | None]:
    try:
        return _messages(await store.read(session_id, stream_id="1"))
    except StreamNotFound:
        return []


def _set_right(server: RedisServer, right: str) -> None:
    with closing(server.client()) as client:
        client.execute_command("ACL SETUSER", "default", right)


async def test_a_password_that_is_wrong_is_told_and_not_shown(new_server: NewServer) -> None:
    server = new_server({"requirepass": "right"})
    place = f"{server.host}:{server.port}/0"
    for login in (":wrong@", ""):
        with pytest.raises(AccessDenied) as caught:
            await open_store(f"redis://{login}{place}").open()
        assert "wrong@" not in str(caught.value)
    async with open_store(f"redis://:right@{place}") as store:
        assert await store.append("session", "1", "x")


async def test_a_full_memory_is_waited_for(new_server: NewServer) -> None:
    server = new_server()
    async with open_store(server.dsn, timeout=3) as store:
        await store.append("session", "1", "x")
        with server.client() as client:
            client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match=r"OOM|memory"):
            await store.append("session", "1", "y")
        with server.client() as client:
            client.config_set("maxmemory", "0")
        await store.append("session", "1", "z")
        found = _messages(await store.read("session", stream_id="1"))
        assert found in (["x", "z"], ["x", "y", "z"])


async def test_a_tail_goes_on_when_the_server_was_away(store: Store, server: RedisServer) -> None:
    tail = asyncio.ensure_future(rest(store.tail("session", "1")))
    await store.append("session", "1", "before")
    server.kill()
    server.start()
    await store.append("session", "1", "after", final=True)
    assert [item.message for item in await tail if isinstance(item, Event)] == ["before", "after"]
