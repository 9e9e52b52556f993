"""DSNs and clients: what is taken, and what is refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from mcp_persist_sa import InvalidDSN, InvalidOption, PersistError, Store, StoreClosed, open_store
from tests.contract.support import fill, messages
from tests.databases import Database
from tests.servers.redis import RedisServer


@pytest.mark.parametrize("decoded", [False, True])
async def test_a_client_of_the_caller_s_is_used_and_left_open(server: RedisServer, decoded: bool) -> None:
    async with Redis(host=server.host, port=server.port, decode_responses=decoded) as client:
        async with Store(client, key_prefix="mine", poll_interval=0.05) as store, Store(client) as other:
            await store.sessions.create("session", metadata={"a": 1})
            ids = await fill(store, "session", "1", 3, final=True)
            assert messages(await store.read("session", after=ids[0])) == ["2", "3"]
            assert [item async for item in store.tail("session", after=ids[2])] == []
            assert await other.sessions.count() == 0
        assert await client.ping()
        keys = [key if isinstance(key, str) else key.decode() for key in await client.keys("*")]
        assert {key.partition(":")[0] for key in keys} == {"{mine"}
        with pytest.raises(StoreClosed):
            await store.sessions.get("session")


async def test_a_client_of_a_cluster_is_used_and_left_open(new_redis: Any) -> None:
    database = Database("valkey-cluster", new_redis("valkey-cluster"))
    host, _, port = database.dsn.partition("://")[2].partition("?")[0].partition(":")
    client = RedisCluster(host=host, port=int(port))
    async with Store(client, key_prefix="mine") as store:
        ids = await fill(store, "session", "1", 3)
        assert messages(await store.read("session", after=ids[0])) == ["2", "3"]
    assert await client.ping()
    await client.aclose()
    decoding = RedisCluster(host=host, port=int(port), decode_responses=True)
    with pytest.raises(InvalidOption, match="without decode_responses"):
        await Store(decoding).open()
    with pytest.raises(InvalidOption, match="not for a cluster"):
        await open_store(database.dsn, wait_replicas=1).open()
    await decoding.aclose()


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("redis://127.0.0.1:1?xyzzy=1", "xyzzy"),
        ("redis://127.0.0.1:x/0", "does not accept"),
        ("redis://127.0.0.1:1/many", "number of the database"),
        ("redis+cluster://127.0.0.1:1?xyzzy=1", "xyzzy"),
        ("redis+cluster://127.0.0.1:1/1", "has one database"),
        ("redis+sentinel://127.0.0.1:1/service?xyzzy=1", "xyzzy"),
        ("redis+sentinel://127.0.0.1:1", "Name the service"),
        ("redis+sentinel://127.0.0.1:1/service/x", "does not accept"),
        ("redis+sentinel://127.0.0.1:1/service", "not available|No master found"),
        ("redis+cluster://127.0.0.1:1", "not available"),
        ("redis://127.0.0.1:1?schema=x", "choose a key_prefix"),
    ],
)
async def test_a_dsn_that_leads_nowhere_is_refused(dsn: str, said: str) -> None:
    with pytest.raises(PersistError, match=said) as caught:
        await open_store(f"{dsn}{'&' if '?' in dsn else '?'}timeout=0.3&connect_timeout=0.2").open()
    assert "127.0.0.1:" in str(caught.value)
    assert "<redis" not in str(caught.value)


async def test_what_is_no_client_is_refused() -> None:
    nonsense: Any = object()
    with pytest.raises(InvalidDSN, match=r"redis\.asyncio"):
        await Store(nonsense).open()
