"""What the doctor finds in a server of Redis' kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from mcp_persist_sa import AccessDenied, open_store
from mcp_persist_sa.backends import redis
from mcp_persist_sa.operations import doctor
from mcp_persist_sa.oversight import Finding
from tests.databases import Database
from tests.on_redis.conftest import ALWAYS, EVERY_SECOND, NewServer
from tests.servers.redis import RedisServer

SCRIPTS = Path(redis.__file__).with_name("scripts")

SHOP = "on >secret resetchannels ~{mcp:* &{mcp:* +@all -@admin -@dangerous +info +config|get"
"""As docs/redis.md has it."""


async def examined(dsn: str, **options: object) -> dict[str, Finding]:
    findings = [finding async for finding in doctor(dsn, **options)]
    assert len({finding.check for finding in findings}) == len(findings)
    assert all(finding.advice for finding in findings if finding.status == "wrong")
    assert "secret" not in str(findings)
    return {finding.check: finding for finding in findings}


def statuses(findings: Mapping[str, Finding], *checks: str) -> list[str]:
    return [findings[check].status for check in checks]


def as_shop(server: RedisServer, *rights: str) -> str:
    with closing(server.client()) as client:
        client.execute_command("ACL SETUSER", "shop", *SHOP.split(), *rights)
    return f"redis://shop:secret@{server.host}:{server.port}/0?timeout=5"


async def test_a_server_that_keeps_everything_is_well(new_server: NewServer) -> None:
    findings = await examined(as_shop(new_server(ALWAYS)))
    assert {finding.status for finding in findings.values()} == {"ok"}, findings
    assert findings["database"].found.startswith(("Redis ", "Valkey "))


DURABILITY = [
    (EVERY_SECOND, "note", "everysec"),
    ({"appendonly": "no", "save": "60 1"}, "note", "snapshots"),
    ({"appendonly": "no", "save": ""}, "wrong", "nothing"),
]


@pytest.mark.parametrize(("settings", "status", "found"), DURABILITY, ids=lambda value: str(value)[:9])
async def test_what_a_restart_would_lose_is_said(
    new_server: NewServer, settings: Mapping[str, str], status: str, found: str
) -> None:
    findings = await examined(new_server(settings).dsn)
    assert findings["durability"].status == status
    assert found in findings["durability"].found
    assert findings["role"].status == "note"


async def test_keys_that_are_removed_and_memory_that_is_full_are_found(new_server: NewServer) -> None:
    server = new_server({**ALWAYS, "maxmemory-policy": "volatile-lru"})
    assert statuses(await examined(server.dsn), "eviction", "memory") == ["note", "ok"]
    with closing(server.client()) as client:
        client.execute_command("CONFIG SET", "maxmemory", "100mb")
        assert statuses(await examined(server.dsn), "eviction", "memory") == ["wrong", "ok"]
        client.execute_command("CONFIG SET", "maxmemory-policy", "noeviction")
        client.execute_command("CONFIG SET", "maxmemory", "1mb")
        assert statuses(await examined(server.dsn), "eviction", "memory") == ["ok", "wrong"]


async def test_a_replica_and_replicas_that_are_missing_are_found(new_server: NewServer) -> None:
    master = new_server(ALWAYS)
    replica = new_server({**ALWAYS, "replicaof": f"{master.host} {master.port}"})
    assert (await examined(replica.dsn))["writing"].status == "wrong"
    assert (await examined(master.dsn, wait_replicas=9))["writing"].status == "wrong"


RIGHTS = [
    *[("-zadd", "ZADD"), ("-hget", "HGET"), ("-hset", "HSET"), ("-rpush", "RPUSH"), ("-scan", "SCAN")],
    *[("-publish", "PUBLISH"), ("resetchannels", "PUBLISH"), ("-wait", "WAIT")],
    *[("-@list", "LRANGE"), ("resetkeys", "HMGET")],
]


@pytest.mark.parametrize(("forbidden", "named"), RIGHTS, ids=lambda value: str(value))
async def test_a_right_that_is_missing_is_named(new_server: NewServer, forbidden: str, named: str) -> None:
    findings = await examined(as_shop(new_server(ALWAYS), forbidden), wait_replicas=int(named == "WAIT"))
    rights = findings.get("rights") or findings["connection"]
    assert rights.status == ("note" if named == "PUBLISH" else "wrong")
    assert named in rights.found or forbidden == "resetkeys"


async def test_whoever_looks_for_rights_leaves_nothing(new_server: NewServer) -> None:
    server = new_server(ALWAYS)
    dsn = as_shop(server)
    with closing(server.client()) as client:
        await examined(dsn)
        assert client.keys("*") == []


def test_every_command_of_the_scripts_is_looked_for() -> None:
    texts = {path.stem: path.read_text() for path in SCRIPTS.glob("*.lua")}
    used = {name for text in texts.values() for name in re.findall(r"\bp?call\('(\w+)'", text)}
    assert len(used) > 30
    assert used - {*re.findall(r"\{'(\w+)'", texts["rights"])} == set()


async def test_a_right_that_a_script_misses_is_said(new_server: NewServer) -> None:
    async with open_store(as_shop(new_server(ALWAYS), "-rpush")) as store:
        with pytest.raises(AccessDenied, match="script"):
            await store.append("session", "1", "x")


async def test_a_server_that_tells_nothing_is_looked_at_as_far_as_it_lets(new_server: NewServer) -> None:
    findings = await examined(as_shop(new_server(ALWAYS), "-info", "-config"))
    assert findings["database"].status == "note"
    assert {finding.status for check, finding in findings.items() if check != "database"} == {"ok"}, findings


async def test_a_server_that_tells_nothing_is_not_said_to_have_no_replicas(new_server: NewServer) -> None:
    findings = await examined(as_shop(new_server(ALWAYS), "-info"), wait_replicas=1)
    assert (findings["writing"].status, findings["writing"].found) == ("ok", "not told")


async def test_each_master_of_a_cluster_is_looked_at(new_redis: Callable[[str], str]) -> None:
    database = Database("valkey-cluster", new_redis("valkey-cluster"))
    async with open_store(database.dsn) as store:
        findings = {finding.check: finding for finding in await store.examine()}
    assert findings["cluster"].found == "3 masters, state ok"
    assert "cluster" in findings["database"].found
    assert statuses(findings, "rights", "clock") == ["ok", "ok"]
