"""A migration that fails leaves nothing half-made."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from mcp_persist_sa import Store, configure_sqlite, migrate, open_store
from mcp_persist_sa.errors import SchemaError
from mcp_persist_sa.migrate import upgrade, upgrade_on
from mcp_persist_sa.schema import HEAD, VERSION_TABLE
from tests.migrations.extra import EXPAND, FAMILY, REBUILD, REBUILD_PARENTS, add_revision
from tests.migrations.support import Target, contents, seed

SQL_ERROR = 'op.execute("INSERT INTO mcp_no_such_table VALUES (1)")'
CODE_ERROR = 'raise RuntimeError("the revision is wrong")'
ERRORS = pytest.mark.parametrize(
    ("last", "error"), [(SQL_ERROR, SchemaError), (CODE_ERROR, RuntimeError)], ids=["sql", "code"]
)


@pytest.fixture
def migrations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our migrations that the package takes for its own."""
    monkeypatch.setattr(migrate, "script_location", lambda: folder)
    return folder


@ERRORS
@pytest.mark.parametrize("body", [EXPAND, REBUILD], ids=["expand", "rebuild"])
async def test_a_failed_revision_changes_nothing(
    target: Target, migrations: Path, body: str, last: str, error: type[Exception]
) -> None:
    await upgrade(target.dsn)
    seed(target, 1)
    before = target.structure(), contents(target), target.revision(), target.versions()
    add_revision(migrations, body, last=last)
    with pytest.raises(error, match=r"failed and was undone: .*no_such_table|the revision is wrong"):
        await upgrade(target.dsn)
    assert (target.structure(), contents(target), target.revision(), target.versions()) == before
    async with open_store(target.dsn) as store:
        await store.append("session", "stream", "{}")


@ERRORS
async def test_a_first_revision_that_fails_leaves_no_table(
    target: Target, migrations: Path, monkeypatch: pytest.MonkeyPatch, last: str, error: type[Exception]
) -> None:
    [first] = (migrations / "versions").glob("*_0001_*.py")
    first.write_text(first.read_text().replace("\n\n\ndef _create_sessions", f"\n    {last}\n\n\ndef _create_sessions"))
    with pytest.raises(error):
        await upgrade(target.dsn)
    assert target.tables() <= {VERSION_TABLE}
    monkeypatch.undo()
    await upgrade(target.dsn)
    target.check()


async def test_revisions_before_the_failed_one_are_whole(target: Target, migrations: Path) -> None:
    add_revision(migrations, EXPAND)
    add_revision(migrations, REBUILD, last=SQL_ERROR)
    with pytest.raises(SchemaError):
        await upgrade(target.dsn)
    if target.is_postgres:
        assert target.versions() == [target.revision()] == [f"{HEAD[:-4]}{int(HEAD[-4:]) + 1:04}"]
        assert "mcp_extra" in target.tables()
    else:
        assert target.tables() == set()


# What a SQLite table that is rebuilt could take with it


@pytest.fixture
async def family(sqlite_target: Target, migrations: Path) -> Target:
    """A database with parents and children, whose parents the next revision rebuilds."""
    add_revision(migrations, FAMILY)
    await upgrade(sqlite_target.dsn)
    add_revision(migrations, REBUILD_PARENTS)
    return sqlite_target


CHILDREN = [(1, 1), (2, 1), (3, 2)]


async def test_a_parent_table_that_is_rebuilt_loses_no_child_row(family: Target) -> None:
    await upgrade(family.dsn)
    _expect_rebuilt(family)


def _expect_rebuilt(family: Target) -> None:
    assert family.rows("SELECT id, parent_id FROM mcp_children ORDER BY id") == CHILDREN
    assert "VARCHAR(100)" in family.rows("SELECT sql FROM sqlite_master WHERE name = 'mcp_parents'")[0][0]


def foreign_keys_on(engine: sa.Engine, *, begin: str | None = None) -> None:
    """What many applications do to their SQLite engine, and what SQLAlchemy's documentation tells them to."""

    def connect(connection: sa.engine.interfaces.DBAPIConnection, record: object) -> None:
        if begin:
            connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    event.listen(engine, "connect", connect)
    if begin:

        def begin_by_hook(connection: sa.Connection) -> None:
            connection.exec_driver_sql(str(begin))

        event.listen(engine, "begin", begin_by_hook)


BEGINS = pytest.mark.parametrize("begin", [None, "BEGIN", "BEGIN IMMEDIATE"])


@BEGINS
def test_nor_does_it_on_a_callers_engine_with_foreign_keys_on(family: Target, begin: str | None) -> None:
    engine = sa.create_engine(family.dsn)
    foreign_keys_on(engine, begin=begin)
    with engine.connect() as connection:
        upgrade_on(connection)
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()
    _expect_rebuilt(family)


@BEGINS
async def test_nor_does_it_on_a_callers_engine_of_asyncio(family: Target, begin: str | None) -> None:
    engine = create_async_engine(family.async_url)
    foreign_keys_on(engine.sync_engine, begin=begin)
    async with engine.connect() as connection:
        await connection.run_sync(upgrade_on)
        assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
    await engine.dispose()
    _expect_rebuilt(family)


def test_a_connection_in_a_transaction_is_refused_because_foreign_keys_would_stay_on(family: Target) -> None:
    engine = sa.create_engine(family.dsn)
    foreign_keys_on(engine, begin="BEGIN")
    with engine.connect() as connection, connection.begin(), pytest.raises(SchemaError, match="without one"):
        upgrade_on(connection)
    engine.dispose()
    assert family.rows("SELECT id, parent_id FROM mcp_children ORDER BY id") == CHILDREN


async def test_a_revision_that_would_leave_orphans_is_undone(family: Target, migrations: Path) -> None:
    await upgrade(family.dsn)
    before = family.structure(), contents(family)
    add_revision(migrations, 'op.execute("DELETE FROM mcp_parents WHERE id = 1")')
    with pytest.raises(SchemaError, match="mcp_children without their parents"):
        await upgrade(family.dsn)
    assert (family.structure(), contents(family)) == before


@BEGINS
async def test_a_store_makes_its_tables_on_a_callers_engine_whatever_its_hooks(
    sqlite_target: Target, begin: str | None
) -> None:
    engine: AsyncEngine = create_async_engine(sqlite_target.async_url)
    configure_sqlite(engine)
    foreign_keys_on(engine.sync_engine, begin=begin)
    async with Store(engine) as store:
        await store.append("session", "stream", "{}")
    await engine.dispose()
    sqlite_target.check()
