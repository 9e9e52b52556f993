"""A store looks at the revision of the tables as it opens, and says what to do when it cannot work with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from mcp_persist_sa import Store, open_store
from mcp_persist_sa.errors import InvalidOption, PersistError, SchemaAhead, SchemaError, SchemaForeign, SchemaMissing
from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.schema import HEAD, VERSION_TABLE
from tests.migrations.extra import EXPAND, add_revision
from tests.migrations.releases import Release, next_release
from tests.migrations.support import Target, contents, seed

COMMAND = r"Run `mcp-persist-sa upgrade`\."


class Opener:
    """Opens a store by a DSN, or on an engine of the caller's."""

    def __init__(self, *, by_engine: bool) -> None:
        self._by_engine = by_engine

    @asynccontextmanager
    async def __call__(self, target: Target, **options: Any) -> AsyncGenerator[Store]:
        if not self._by_engine:
            async with open_store(target.dsn, **options) as store:
                yield store
            return
        engine = create_async_engine(target.async_url)
        try:
            async with Store(engine, **options) as store:
                yield store
        finally:
            await engine.dispose()


@pytest.fixture(params=[False, True], ids=["dsn", "engine"])
def opened(request: pytest.FixtureRequest) -> Opener:
    return Opener(by_engine=request.param)


async def test_a_sqlite_file_is_created_and_brought_up_to_date_by_default(
    sqlite_target: Target, opened: Opener
) -> None:
    async with opened(sqlite_target) as store:
        await store.append("session", "stream", "{}")
    assert sqlite_target.versions() == [HEAD]
    sqlite_target.check()


async def test_a_sqlite_file_is_left_alone_if_so_wished(sqlite_target: Target, opened: Opener) -> None:
    with pytest.raises(SchemaMissing, match=COMMAND):
        async with opened(sqlite_target, migrate=False):
            pass
    assert sqlite_target.tables() == set()


@pytest.mark.parametrize("migrate", [None, False])
async def test_postgres_is_only_verified(postgres_target: Target, opened: Opener, migrate: bool | None) -> None:
    with pytest.raises(SchemaMissing, match=COMMAND):
        async with opened(postgres_target, migrate=migrate):
            pass
    assert postgres_target.tables() == set()


async def test_postgres_is_brought_up_to_date_if_so_wished(postgres_target: Target, opened: Opener) -> None:
    async with opened(postgres_target, migrate=True) as store:
        await store.append("session", "stream", "{}")
    postgres_target.check()


async def test_once_upgraded_a_store_opens_without_leave_to_migrate(target: Target, opened: Opener) -> None:
    await upgrade(target.dsn)
    before = target.structure()
    async with opened(target, migrate=False) as store:
        await store.append("session", "stream", "{}")
    assert target.structure() == before


@pytest.fixture
def newer(tmp_path: Path) -> Release:
    """The next release, whose revision older releases can live with."""
    return next_release(tmp_path, EXPAND)


async def test_a_release_that_is_newer_than_the_tables_says_that_they_are_behind(
    target: Target, newer: Release
) -> None:
    await upgrade(target.dsn)
    seed(target, 1)
    before = contents(target)
    said = newer.run("open", target.dsn, migrate=False)
    assert said.startswith(
        f"SchemaBehind: The database is at {HEAD}, this release needs {newer.revision}. Run `mcp-persist-sa upgrade`."
    )
    if target.is_postgres:
        assert newer.run("open", target.dsn) == said
    assert contents(target) == before
    assert newer.run("open", target.dsn, **({"migrate": True} if target.is_postgres else {})) == "1 events"
    assert target.revision() == newer.revision


async def test_a_release_that_is_older_than_the_tables_works_if_they_were_only_expanded(
    target: Target, newer: Release, opened: Opener
) -> None:
    assert newer.run("upgrade", target.dsn) == "upgraded"
    async with opened(target) as store:
        await store.append("session", "stream", "{}")
    async with opened(target, migrate=True) as store:
        assert len((await store.read("session", stream_id="stream")).events) == 1
    assert newer.run("open", target.dsn) == "2 events"


async def test_its_upgrade_then_changes_nothing(target: Target, newer: Release) -> None:
    newer.run("upgrade", target.dsn)
    before = target.structure()
    await upgrade(target.dsn)
    assert (target.structure(), target.versions()) == (before, [newer.revision])


async def test_a_release_that_is_too_old_for_the_tables_is_told_so(
    target: Target, tmp_path: Path, opened: Opener
) -> None:
    newer = next_release(tmp_path, EXPAND, contracts=True)
    newer.run("upgrade", target.dsn)
    told = f"at {newer.revision} and needs release 9.9.0 or newer. Upgrade this package: pip install -U mcp-persist-sa"
    for migrate in (None, True):
        with pytest.raises(SchemaAhead) as raised:
            async with opened(target, migrate=migrate):
                pass
        assert told in str(raised.value)
    with pytest.raises(SchemaAhead) as raised:
        await upgrade(target.dsn)
    assert told in str(raised.value)
    assert newer.run("open", target.dsn) == "1 events"


# Tables of somebody else's

FOREIGN = {
    "a table with a name of ours": ["CREATE TABLE mcp_events (id INTEGER)"],
    "all by hand": ["CREATE TABLE mcp_events (id INTEGER)", "CREATE TABLE mcp_schema (id INTEGER)"],
    "a table of another shape": ["CREATE TABLE mcp_schema (name TEXT)"],
    "a table of our shape with nothing in it": [
        "CREATE TABLE mcp_schema (id INTEGER, revision TEXT, oldest_revision TEXT, oldest_release TEXT)"
    ],
    "a table of our shape with something else in it": [
        "CREATE TABLE mcp_schema (id INTEGER, revision TEXT, oldest_revision TEXT, oldest_release TEXT)",
        "INSERT INTO mcp_schema VALUES (1, 'spring', 'winter', '')",
    ],
}


@pytest.mark.parametrize("made", FOREIGN)
async def test_tables_of_somebody_else_are_refused_and_stay(target: Target, made: str, opened: Opener) -> None:
    target.execute(*FOREIGN[made])
    before = target.structure()
    remedy = "schema" if target.is_postgres else "file"
    for migrate in (None, True):
        with pytest.raises(SchemaForeign, match=rf"choose another {remedy}|host application"):
            async with opened(target, migrate=migrate):
                pass
    with pytest.raises(SchemaForeign):
        await upgrade(target.dsn)
    assert target.structure() == before


async def test_so_are_those_that_come_after_ours_were_taken_down(target: Target) -> None:
    target.upgrade()
    target.downgrade("base")
    assert target.tables() == {VERSION_TABLE}
    target.execute("CREATE TABLE mcp_events (id INTEGER)")
    with pytest.raises(SchemaForeign, match="mcp_events"):
        await upgrade(target.dsn)


async def test_a_row_that_was_deleted_is_told_from_tables_that_are_behind(target: Target) -> None:
    target.upgrade()
    target.execute("DELETE FROM mcp_schema")
    with pytest.raises(SchemaForeign, match="emptied"):
        async with open_store(target.dsn):
            pass


async def test_other_tables_are_no_hindrance(target: Target) -> None:
    target.execute("CREATE TABLE invoices (id INTEGER)", "CREATE TABLE mcp_others (id INTEGER)")
    await upgrade(target.dsn)
    async with open_store(target.dsn) as store:
        await store.append("session", "stream", "{}")
    assert {"invoices", "mcp_others"} <= target.tables()


async def test_redis_has_no_migrations() -> None:
    with pytest.raises(SchemaError, match="no tables"):
        await upgrade("redis://127.0.0.1/0")


async def test_sqlite_has_no_schemas(sqlite_target: Target, opened: Opener) -> None:
    with pytest.raises(InvalidOption, match="another file"):
        await upgrade(sqlite_target.dsn, schema="other")
    with pytest.raises(InvalidOption, match="another file"):
        async with opened(sqlite_target, schema="other"):
            pass


async def test_a_revision_that_there_is_not_is_said(target: Target) -> None:
    with pytest.raises(SchemaError, match="mcp_persist_sa_9999"):
        await upgrade(target.dsn, "mcp_persist_sa_9999")


async def test_every_error_of_opening_is_one_of_ours(target: Target, folder: Path) -> None:
    add_revision(folder, EXPAND, contracts=True)
    target.upgrade(folder=folder)
    with pytest.raises(PersistError):
        async with open_store(target.dsn):
            pass
