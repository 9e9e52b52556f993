"""On Postgres, a role that may read and write rows, and nothing else, runs the whole store."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from mcp_persist_sa import NewEvent, Store, open_store
from mcp_persist_sa.errors import AccessDenied, SchemaMissing
from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.operations import doctor
from mcp_persist_sa.schema import metadata
from tests.migrations.support import Target
from tests.pages import DOCS, blocks
from tests.servers.dsns import Dsn

TABLES = ", ".join(f"ours.{name}" for name in metadata.tables)


@pytest.fixture
def role(postgres_target: Target) -> Iterator[str]:
    """A role that may not even make a temporary table."""
    name, database = f"role_{secrets.token_hex(8)}", Dsn.parse(postgres_target.dsn).database
    postgres_target.execute(
        f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC',
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"CREATE ROLE {name} LOGIN PASSWORD 'secret'",
        f'GRANT CONNECT ON DATABASE "{database}" TO {name}',
    )
    yield name
    postgres_target.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture
async def dsn(postgres_target: Target, role: str) -> str:
    """Our tables in a schema of their own, with what the documentation says to grant on them."""
    await upgrade(postgres_target.dsn, schema="ours")
    postgres_target.execute(
        f"GRANT USAGE ON SCHEMA ours TO {role}", f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO {role}"
    )
    return f"{_as(postgres_target, role)}?schema=ours"


def _as(target: Target, role: str) -> str:
    return str(Dsn.parse(target.dsn)._replace(user=role, password="secret"))


async def sessions(store: Store) -> None:
    fresh = await store.sessions.create(owner="ann", metadata={"a": 1})
    await store.sessions.create("given", owner="ann")
    await store.sessions.get("given")
    await store.sessions.update("given", handshake={"b": 2})
    await store.sessions.touch("given")
    assert len((await store.sessions.list(owner="ann")).sessions) == await store.sessions.count(owner="ann") == 2
    await store.append(fresh.session_id, "stream", "{}")
    assert await store.sessions.close(fresh.session_id)
    await store.sessions.delete(fresh.session_id)
    await store.sessions.delete_owner("ann")
    assert await store.sessions.count() == 0


async def state(store: Store) -> None:
    handle = store.state("handle")
    assert await handle.set("a", 1) == 1
    assert await handle.compare_and_set("a", 2, version=1) == 2
    assert await handle.update("a", lambda value: value + 1) == 3
    assert await handle.keys() == ["a"]
    assert await handle.delete("a")
    await handle.set("b", 1)
    assert await handle.clear() == 1


async def events(store: Store) -> None:
    ids = await store.append_many("session", "shared", [NewEvent("1"), NewEvent("2"), NewEvent("3", final=True)])
    writer = store.claim("session", "own")
    receipts = [writer.append("1"), writer.append(None), writer.append("3", final=True)]
    for receipt in receipts:
        await receipt.durable()
    assert [event.event_id async for event in store.tail("session", stream_id="own") if event] == [  # type: ignore[union-attr]
        receipt.event_id for receipt in receipts
    ]
    assert len((await store.read("session", after=ids[0])).events) == 2
    assert len((await store.read_before("session", ids[2])).events) == 2
    assert len((await store.recent("session", "shared", limit=1)).events) == 1
    assert (await store.stream("session", "shared")).finished
    assert len([info async for info in store.streams("session")]) == 2
    assert await store.delete_before("session", ids[1]) == 1
    assert (await store.delete_events("session")).streams == 2


async def policies(store: Store) -> None:
    await store.policies.set("acme", audit_ttl=60)
    await store.policies.set("acme", event_ttl=60, audit_ttl=60)
    await store.sessions.create("session", tenant="acme")
    await store.sessions.delete("session")
    assert len((await store.audit(tenant="acme")).entries) == len(await store.policies.list()) == 1
    assert await store.policies.remove("acme")


async def retention(dsn: str) -> None:
    moment = datetime.now(timezone.utc)
    async with open_store(dsn, clock=lambda: moment, max_events_per_stream=2, state_ttl=60) as store:
        await store.sessions.create("old")
        for _ in range(4):
            await store.append("old", "stream", "{}")
        await store.state("handle").set("a", 1)
        first = await store.purge()
        moment += timedelta(days=2)
        removed = first.plus(await store.purge())
        assert removed.sessions == removed.streams == removed.state == 1
        assert removed.events


async def everything(dsn: str) -> None:
    async with open_store(dsn) as store:
        await sessions(store)
        await state(store)
        await events(store)
        await policies(store)
    await retention(dsn)


async def test_it_runs_the_whole_facade(dsn: str) -> None:
    await everything(dsn)


@pytest.mark.parametrize("lacking", ["SELECT", "INSERT", "UPDATE", "DELETE"])
async def test_it_needs_each_of_its_privileges(postgres_target: Target, dsn: str, role: str, lacking: str) -> None:
    postgres_target.execute(f"REVOKE {lacking} ON {TABLES} FROM {role}")
    with pytest.raises(AccessDenied, match=r"permission denied for table mcp_.* privileges\."):
        await everything(dsn)


async def test_it_cannot_migrate_and_is_told_so(dsn: str) -> None:
    with pytest.raises(AccessDenied, match="permission denied for database"):
        await upgrade(dsn.replace("schema=ours", "schema=theirs"))
    with pytest.raises(AccessDenied, match="permission denied for table mcp_persist_sa_version"):
        await upgrade(dsn)


async def test_two_roles_as_the_page_makes_them(postgres_target: Target) -> None:
    owner, user = (f"role_{secrets.token_hex(8)}" for _ in range(2))
    [script] = blocks(DOCS / "migrations.md", "sql")
    script = re.sub(r"\bshop\b", user, script.replace("shop_owner", owner))
    script = re.sub("'.*'", "'secret'", script)
    postgres_target.execute(*script.strip().split(";\n"))
    try:
        await upgrade(_as(postgres_target, owner), schema="mcp")
        dsn = f"{_as(postgres_target, user)}?schema=mcp"
        await everything(dsn)
        findings = {finding.check: finding.status async for finding in doctor(dsn)}
        assert (findings["rights"], findings["revision"]) == ("ok", "ok")
        with pytest.raises(AccessDenied):
            await upgrade(_as(postgres_target, user), schema="public")
    finally:
        for name in (user, owner):
            postgres_target.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_a_role_that_sees_nothing_is_told_that_there_is_nothing(postgres_target: Target, role: str) -> None:
    await upgrade(postgres_target.dsn)
    with pytest.raises((SchemaMissing, AccessDenied)):
        async with open_store(_as(postgres_target, role)):
            pass


async def test_a_role_that_may_not_create_tables_is_told_so(postgres_target: Target, role: str) -> None:
    postgres_target.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
    with pytest.raises(AccessDenied, match="permission denied for schema public"):
        await upgrade(_as(postgres_target, role))
    assert postgres_target.tables() == set()
