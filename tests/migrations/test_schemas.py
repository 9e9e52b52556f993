"""A Postgres schema other than the first of the search path."""

from __future__ import annotations

import shlex
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mcp_persist_sa import Store, open_store
from mcp_persist_sa.errors import SchemaForeign, SchemaMissing
from mcp_persist_sa.migrate import upgrade, upgrade_on
from mcp_persist_sa.options import Options
from mcp_persist_sa.schema import VERSION_TABLE, metadata
from tests.migrations.support import Target
from tests.migrations.test_commands import ODD
from tests.servers import ADVISORY_LOCKS, PgBouncer

OURS = {*metadata.tables, VERSION_TABLE}
NAMES = pytest.mark.parametrize("name", ["other", "Other", ODD, "a.b", "a:b", "[x]", "select"])


def tables(target: Target, schema: str) -> set[str]:
    return {line[0] for line in target.structure(schema)}


async def use(store: Store) -> int:
    """Take a little of everything, and say how many events there are by now."""
    await store.sessions.create()
    await store.state("session").set("key", 1)
    await store.append("session", "stream", "{}")
    await store.purge()
    return len((await store.read("session", stream_id="stream")).events)


@NAMES
async def test_the_option_names_a_schema_which_is_made(postgres_target: Target, name: str) -> None:
    await upgrade(postgres_target.dsn, schema=name)
    postgres_target.check(schema=name)
    async with open_store(postgres_target.dsn, schema=name) as store:
        assert await use(store) == 1
    async with open_store(f"{postgres_target.dsn}?schema={quote(name)}") as store:
        assert await use(store) == 2
    assert (tables(postgres_target, name), tables(postgres_target, "public")) == (OURS, set())


@NAMES
async def test_a_store_that_may_migrate_makes_it_too(postgres_target: Target, name: str) -> None:
    async with open_store(postgres_target.dsn, schema=name, migrate=True) as store:
        assert await use(store) == 1
    assert (tables(postgres_target, name), tables(postgres_target, "public")) == (OURS, set())


@pytest.fixture
async def engine(postgres_target: Target) -> AsyncEngine:
    return create_async_engine(postgres_target.async_url, pool_size=1, max_overflow=0)


@NAMES
async def test_so_does_one_on_a_callers_engine_whose_search_path_stays(
    postgres_target: Target, engine: AsyncEngine, name: str
) -> None:
    async with Store(engine, schema=name, migrate=True) as store:
        assert await use(store) == 1
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SHOW search_path")) == '"$user", public'
    await engine.dispose()
    assert (tables(postgres_target, name), tables(postgres_target, "public")) == (OURS, set())
    postgres_target.check(schema=name)


async def test_a_transaction_of_the_callers_is_joined_and_can_be_undone(
    postgres_target: Target, engine: AsyncEngine
) -> None:
    async with engine.connect() as connection:
        await connection.execute(sa.text("CREATE TABLE before (id int)"))
        await connection.run_sync(lambda c: upgrade_on(c, options=Options(schema="other")))
        await connection.rollback()
        assert (tables(postgres_target, "other"), postgres_target.tables()) == (set(), set())
        await connection.run_sync(lambda c: upgrade_on(c, options=Options(schema="other")))
        await connection.commit()
    async with engine.begin() as connection:
        await connection.run_sync(upgrade_on)
    await engine.dispose()
    assert (tables(postgres_target, "other"), tables(postgres_target, "public")) == (OURS, OURS)


async def test_schemas_of_one_database_are_apart(postgres_target: Target) -> None:
    for name in ("one", "two"):
        await upgrade(postgres_target.dsn, schema=name)
    async with (
        open_store(postgres_target.dsn, schema="one") as one,
        open_store(postgres_target.dsn, schema="two") as two,
    ):
        await use(one)
        assert await one.sessions.count() == 1
        assert await two.sessions.count() == 0


async def test_the_schema_of_the_role_is_the_default(postgres_target: Target) -> None:
    database = postgres_target.dsn.rpartition("/")[2]
    postgres_target.execute("CREATE SCHEMA mine", f'ALTER DATABASE "{database}" SET search_path TO mine, public')
    await upgrade(postgres_target.dsn)
    async with open_store(postgres_target.dsn) as store:
        assert await use(store) == 1
    assert (tables(postgres_target, "mine"), tables(postgres_target, "public")) == (OURS, set())


async def test_the_command_that_is_named_names_the_schema(postgres_target: Target) -> None:
    with pytest.raises(SchemaMissing) as raised:
        async with open_store(postgres_target.dsn, schema=ODD):
            pass
    command = str(raised.value).split("`")[1]
    assert shlex.split(command) == ["mcp-persist-sa", "upgrade", "--schema", ODD]


async def test_a_foreign_table_in_the_schema_is_refused_and_one_elsewhere_is_not(postgres_target: Target) -> None:
    postgres_target.execute("CREATE SCHEMA taken", "CREATE TABLE taken.mcp_events (id int)")
    with pytest.raises(SchemaForeign, match="mcp_events"):
        await upgrade(postgres_target.dsn, schema="taken")
    with pytest.raises(SchemaForeign, match="mcp_events"):
        async with open_store(postgres_target.dsn, schema="taken", migrate=True):
            pass
    await upgrade(postgres_target.dsn, schema="free")
    await upgrade(postgres_target.dsn)


async def test_a_pooler_is_left_without_the_search_path_and_without_the_lock(
    postgres_target: Target, pgbouncer: PgBouncer
) -> None:
    pooled = Target("postgresql", pgbouncer.dsn(postgres_target.dsn))
    async with open_store(pooled.dsn, schema="other", migrate=True) as store:
        assert await use(store) == 1
    engine = create_async_engine(pooled.async_url, connect_args={"statement_cache_size": 0})
    async with Store(engine, schema="third", migrate=True, pgbouncer=True) as store:
        assert await use(store) == 1
    try:
        async with engine.connect() as connection:
            assert await connection.scalar(sa.text("SHOW search_path")) == '"$user", public'
            assert await connection.scalar(sa.text(ADVISORY_LOCKS)) == 0
    finally:
        await engine.dispose()
    for name in ("other", "third"):
        pooled.check(schema=name)
