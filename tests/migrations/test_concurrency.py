"""Any number of processes, threads and tasks may upgrade at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from mcp_persist_sa import Store, exclusive, migrate, open_store
from mcp_persist_sa.errors import StoreUnavailable
from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.schema import HEAD, VERSION_TABLE
from tests.migrations.extra import add_revision
from tests.migrations.support import Target
from tests.servers import ADVISORY_LOCKS, ChildProcess, Databases, PgBouncer

PROCESSES = 8
ROUNDS = 4


@pytest.fixture
async def upgraders() -> AsyncIterator[list[ChildProcess]]:
    """Processes that wait for the word to begin."""
    async with AsyncExitStack() as stack:
        children = [
            await stack.enter_async_context(ChildProcess("-m", "tests.migrations.upgrader", timeout=60))
            for _ in range(PROCESSES)
        ]
        for child in children:
            await child.wait_for_line("ready")
        yield children


async def all_at_once(children: list[ChildProcess], *words: str) -> None:
    for number, child in enumerate(children):
        await child.write_line(words[number % len(words)])
    assert [await child.read_line() for child in children] == ["done"] * len(children)


async def test_eight_processes_make_one_new_file(upgraders: list[ChildProcess], tmp_path: Path) -> None:
    for number in range(ROUNDS):
        new = Target("sqlite", f"sqlite:///{tmp_path / f'{number}.db'}")
        await all_at_once(upgraders, f"upgrade {new.dsn}", f"open {new.dsn}")
        assert new.versions() == [HEAD]
        new.check()


async def test_eight_processes_upgrade_one_postgres_database(
    upgraders: list[ChildProcess], postgres_template: Databases
) -> None:
    for _ in range(ROUNDS):
        new = Target("postgresql", postgres_template.create())
        await all_at_once(upgraders, f"upgrade {new.dsn}", f"open {new.dsn}?migrate=true")
        assert new.versions() == [HEAD]
        new.check()
        postgres_template.drop(new.dsn)


async def test_eight_processes_make_one_schema(upgraders: list[ChildProcess], postgres_target: Target) -> None:
    for number in range(ROUNDS):
        await all_at_once(upgraders, f"upgrade {postgres_target.dsn}?schema={quote(f'New one {number}')}")
        postgres_target.check(schema=f"New one {number}")


async def test_eight_processes_upgrade_through_a_pooler_and_leave_no_lock_behind(
    upgraders: list[ChildProcess], postgres_target: Target, pgbouncer: PgBouncer
) -> None:
    await all_at_once(upgraders, f"upgrade {pgbouncer.dsn(postgres_target.dsn)}?schema=pooled")
    postgres_target.check(schema="pooled")
    assert postgres_target.rows(ADVISORY_LOCKS) == [(0,)]


async def test_tasks_of_one_event_loop_do_not_block_each_other(postgres_template: Databases, tmp_path: Path) -> None:
    dsns = [f"sqlite:///{tmp_path / f'{n}.db'}" for n in range(2)] + [postgres_template.create() for _ in range(2)]
    await asyncio.wait_for(asyncio.gather(*(upgrade(dsn) for dsn in dsns * 2)), 60)
    for dsn in dsns:
        async with open_store(dsn) as store:
            await store.append("session", "stream", "{}")


async def test_stores_of_one_event_loop_may_migrate_at_once_on_their_callers_engines(
    target: Target, tmp_path: Path
) -> None:
    engines = [create_async_engine(target.async_url) for _ in range(3)]

    async def use(engine: object) -> None:
        async with Store(engine, migrate=True) as store:  # type: ignore[arg-type]
            await store.append("session", "stream", "{}")

    await asyncio.wait_for(asyncio.gather(*(use(engine) for engine in engines)), 60)
    for engine in engines:
        await engine.dispose()


@contextmanager
def watched(statement: str, times: int) -> Generator[asyncio.Event]:
    """An event that is set when a statement has been run so many times, by whatever engine."""
    loop, reached, count = asyncio.get_running_loop(), asyncio.Event(), 0

    def seen(connection: object, cursor: object, text: str, *_: object) -> None:
        nonlocal count
        count += statement in text
        if count == times:
            loop.call_soon_threadsafe(reached.set)

    event.listen(sa.Engine, "before_cursor_execute", seen)
    try:
        yield reached
    finally:
        event.remove(sa.Engine, "before_cursor_execute", seen)


async def test_a_migration_waits_for_another_one_on_sqlite(sqlite_target: Target) -> None:
    sqlite_target.execute("CREATE TABLE other (id INTEGER)")
    holder = sa.create_engine(sqlite_target.dsn)
    with holder.connect() as connection, watched("BEGIN IMMEDIATE", 3) as asked_again:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(upgrade(sqlite_target.dsn, connect_args={"timeout": 0}))
        await asyncio.wait_for(asked_again.wait(), 60)
        assert not waiting.done()
        connection.rollback()
        await waiting
    holder.dispose()
    sqlite_target.check()


@pytest.fixture
async def holding(postgres_target: Target) -> AsyncIterator[Callable[[], None]]:
    """Another migration of the Postgres database, which ends when this is called."""
    connection = await asyncpg.connect(postgres_target.dsn)
    await connection.execute("SELECT pg_advisory_lock($1)", exclusive._LOCK)  # pyright: ignore[reportPrivateUsage]
    yield connection.terminate
    connection.terminate()


async def test_a_migration_waits_for_another_one_on_postgres(
    postgres_target: Target, holding: Callable[[], None]
) -> None:
    with watched("pg_try_advisory_lock", 3) as asked_again:
        waiting = asyncio.ensure_future(upgrade(postgres_target.dsn))
        await asyncio.wait_for(asked_again.wait(), 60)
        assert not waiting.done()
        holding()
        await waiting
    postgres_target.check()


@pytest.mark.usefixtures("holding")
async def test_a_migration_does_not_wait_for_ever(postgres_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exclusive, "LOCK_SECONDS", 0)
    with pytest.raises(StoreUnavailable, match="Another migration"):
        await upgrade(postgres_target.dsn)
    assert postgres_target.tables() == set()


async def test_a_migration_may_take_longer_than_the_timeout_of_a_call(
    postgres_template: Databases, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_revision(folder, 'op.execute("SELECT pg_sleep(5)")')
    monkeypatch.setattr(migrate, "script_location", lambda: folder)
    targets = [Target("postgresql", postgres_template.create()) for _ in range(2)]
    engine = create_async_engine(targets[1].async_url)

    async def use(store: Store) -> None:
        async with store:
            await store.append("session", "stream", "{}")

    options = {"migrate": True, "timeout": 3}
    await asyncio.gather(use(open_store(targets[0].dsn, **options)), use(Store(engine, **options)))
    await engine.dispose()


async def test_a_migration_that_is_killed_leaves_nothing(target: Target, folder: Path) -> None:
    add_revision(
        folder, 'op.create_table("mcp_half", sa.Column("id", sa.Integer()))\nprint("half", flush=True)\ninput()'
    )
    async with ChildProcess("-m", "tests.migrations.upgrader", str(folder)) as child:
        await child.write_line(f"upgrade {target.dsn}")
        await child.wait_for_line("half")
        await child.kill()
    await upgrade(target.dsn)
    assert "mcp_half" not in target.tables()
    target.check()


async def test_a_cancelled_migration_leaves_nothing(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    with watched("CREATE TABLE mcp_events", 1) as half:
        running = asyncio.ensure_future(upgrade(target.dsn))
        await asyncio.wait_for(half.wait(), 60)
        running.cancel()
        await asyncio.wait({running})
    await upgrade(target.dsn)
    assert target.versions() == [HEAD]
    target.check()
    assert VERSION_TABLE in target.tables()
    assert migrate.script_location().is_dir()
