"""An engine of the caller's: its connections alone are used, all go back, and it stays open."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from mcp_persist_sa import (
    Gap,
    InvalidDSN,
    InvalidInput,
    PersistError,
    SchemaMissing,
    SessionLimitReached,
    Store,
    StoreUnavailable,
    configure_sqlite,
    open_store,
)
from mcp_persist_sa.backends.sql import cutting
from tests.contract.support import Clock, fill, rest
from tests.servers import FaultProxy, PostgresServer

_opened: list[str] = []


def _watch(name: str, arguments: tuple[object, ...]) -> None:
    if name == "sqlite3.connect":
        _opened.append(str(arguments[0]))


# An audit hook cannot be taken back, so it is set once.
sys.addaudithook(_watch)


class Watched:
    """An engine, and what becomes of it."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.connects = 0
        self.disposed = 0
        event.listen(engine.sync_engine, "connect", self._connect)
        event.listen(engine.sync_engine, "engine_disposed", self._dispose)

    def _connect(self, *_: object) -> None:
        self.connects += 1

    def _dispose(self, *_: object) -> None:
        self.disposed += 1


@asynccontextmanager
async def _watched(engine: AsyncEngine) -> AsyncGenerator[Watched, None]:
    try:
        yield Watched(engine)
    finally:
        await engine.dispose()


def _postgres(dsn: str, **arguments: Any) -> AsyncEngine:
    return create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://"), **arguments)


def _sqlite(path: Path, **arguments: Any) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", **arguments)
    configure_sqlite(engine)
    return engine


async def _use(store: Store) -> None:
    """Do a little of everything, also what fails and what is given up."""
    await store.sessions.create("session", owner="alice")
    await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(30)))
    await asyncio.gather(*(store.state("session").update("count", lambda value: value + 1, 0) for _ in range(10)))
    await asyncio.gather(*(store.read("session", stream_id="1") for _ in range(30)))
    with pytest.raises(InvalidInput):
        await store.sessions.list(after="forged")
    for turns in range(20):
        call = asyncio.ensure_future(store.recent("session", "1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
    await store.append("session", "1", "end", final=True)
    assert len(await rest(store.tail("session", stream_id="1"))) == 31
    await store.purge()
    await store.sessions.delete("session")


async def test_on_postgres_only_the_engine_s_connections_are_used(
    new_postgres: Callable[[], str], postgres_server: PostgresServer
) -> None:
    async with (
        FaultProxy(postgres_server.host, postgres_server.port) as proxy,
        _watched(_postgres(proxy.dsn(new_postgres()), pool_size=3, max_overflow=0)) as watched,
    ):
        async with Store(watched.engine, migrate=True) as store:
            await _use(store)
        # And one on which other processes are heard.
        assert 1 <= watched.connects <= 3 + 1
        assert proxy.accepted == watched.connects
        # And of the server's: nothing went past the proxy.
        assert await _backends(watched.engine) <= watched.connects


async def _backends(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return (await connection.execute(count)).scalar_one()


async def test_on_sqlite_only_the_engine_s_connections_are_used(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with _watched(_sqlite(path, pool_size=3, max_overflow=0)) as watched:
        before = len(_opened)
        async with Store(watched.engine) as store:
            await _use(store)
        assert _opened[before:] == [str(path)] * watched.connects
        assert 1 <= watched.connects <= 3 + 1


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_the_engine_stays_open_and_has_its_connections_back(
    kind: str, tmp_path: Path, new_postgres: Callable[[], str]
) -> None:
    arguments: dict[str, Any] = {"pool_size": 5, "max_overflow": 0}
    made = _sqlite(tmp_path / "store.db", **arguments) if kind == "sqlite" else _postgres(new_postgres(), **arguments)
    async with _watched(made) as watched:
        async with Store(watched.engine) as store:
            await _use(store)
        assert watched.disposed == 0
        assert "Current Checked out connections: 0" in watched.engine.pool.status()
        connects = watched.connects
        async with watched.engine.connect() as connection:
            assert (await connection.execute(sa.text("SELECT 1"))).scalar_one() == 1
        assert watched.connects == connects
        async with Store(watched.engine) as again:
            await fill(again, "session", "1", 1)
        assert "Current Checked out connections: 0" in watched.engine.pool.status()


async def test_an_engine_that_cannot_connect_is_not_disposed_of_either() -> None:
    async with _watched(_postgres("postgresql://user:hunter2@127.0.0.1:1/db")) as watched:
        with pytest.raises(StoreUnavailable) as caught:
            await Store(watched.engine, timeout=0.2).open()
        assert watched.disposed == 0
        assert "hunter2" not in str(caught.getrepr(style="value", chain=True))


async def test_missing_tables_are_said_and_made_only_if_allowed(postgres_database: str) -> None:
    async with _watched(_postgres(postgres_database)) as watched:
        with pytest.raises(SchemaMissing, match="mcp-persist-sa upgrade"):
            await Store(watched.engine).open()
        assert "Current Checked out connections: 0" in watched.engine.pool.status()
        async with Store(watched.engine, migrate=True) as store:
            await fill(store, "session", "1", 1)


async def test_what_one_transaction_of_the_caller_holds_is_left_alone(tmp_path: Path) -> None:
    async with _watched(_sqlite(tmp_path / "store.db")) as watched, watched.engine.connect() as mine:
        async with Store(watched.engine) as store:
            await mine.execute(sa.text("CREATE TABLE mine (n int)"))
            await mine.commit()
            await mine.execute(sa.text("SELECT * FROM mine"))
            await fill(store, "session", "1", 3)
        assert mine.in_transaction()
        await mine.rollback()


@pytest.mark.parametrize(
    "arguments",
    [
        {"poolclass": NullPool},
        {"isolation_level": "AUTOCOMMIT"},
        {"isolation_level": "SERIALIZABLE"},
        {"pool_size": 1, "max_overflow": 0},
        {"pool_pre_ping": True, "echo": False, "pool_recycle": 1},
        {"connect_args": {"statement_cache_size": 0}},
    ],
    ids=str,
)
async def test_a_postgres_engine_of_any_kind_keeps_the_promises(
    new_postgres: Callable[[], str], arguments: dict[str, Any]
) -> None:
    await _keeps_the_promises(_postgres(new_postgres(), **arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        {"poolclass": NullPool},
        {"poolclass": StaticPool},
        {"isolation_level": "AUTOCOMMIT"},
        {"pool_size": 1, "max_overflow": 0},
        {"connect_args": {"isolation_level": None}},
        {"connect_args": {"isolation_level": "IMMEDIATE"}},
    ],
    ids=str,
)
async def test_a_sqlite_engine_of_any_kind_keeps_the_promises(tmp_path: Path, arguments: dict[str, Any]) -> None:
    await _keeps_the_promises(_sqlite(tmp_path / "store.db", **arguments))


async def test_a_sqlite_engine_in_memory_keeps_the_promises() -> None:
    await _keeps_the_promises(create_async_engine("sqlite+aiosqlite://"))


async def test_a_sqlite_engine_that_was_not_configured_keeps_the_promises(tmp_path: Path) -> None:
    await _keeps_the_promises(create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"))


async def test_a_sqlite_engine_whose_driver_is_told_to_begin_by_a_hook_keeps_the_promises(tmp_path: Path) -> None:
    engine = _sqlite(tmp_path / "store.db")

    def no_begin(connection: Any, _: object) -> None:
        connection.isolation_level = None

    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    # As SQLAlchemy's documentation of SQLite advises, so that DDL and savepoints are in transactions.
    event.listen(engine.sync_engine, "connect", no_begin)
    event.listen(engine.sync_engine, "begin", begin)
    await _keeps_the_promises(engine)


async def _keeps_the_promises(engine: AsyncEngine) -> None:
    """What needs more than one statement at a time happens whole, and alone."""
    async with _watched(engine) as watched, Store(watched.engine, max_sessions=10) as store:
        created = await asyncio.gather(*(store.sessions.create() for _ in range(30)), return_exceptions=True)
        assert [isinstance(result, SessionLimitReached) for result in created].count(True) == 20
        assert await store.sessions.count() == 10
        ids = await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(50)))
        assert len(set(ids)) == 50
        await asyncio.gather(*(store.append("session", str(n % 3), str(n), final=n % 7 == 0) for n in range(50)))
        async for info in store.streams("session"):
            assert info.count == info.last_sequence
        items = await rest(store.tail("session", after=ids[0])) if (await store.stream("session", "1")).finished else []
        assert not [item for item in items if isinstance(item, Gap)]
        counted = await asyncio.gather(
            *(store.state("session").update("count", lambda value: value + 1, 0) for _ in range(20))
        )
        assert sorted(counted) == list(range(1, 21))
        await store.purge()


# How much happens at a time


class Removals:
    """How many events each transaction on an engine removes."""

    def __init__(self, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts = [0]
        self._remove = cutting.remove
        monkeypatch.setattr(cutting, "remove", self._removed)
        event.listen(engine.sync_engine, "commit", self._committed)

    def _removed(self, *given: Any, **named: Any) -> int:
        removed = self._remove(*given, **named)
        self.counts[-1] += removed
        return removed

    def _committed(self, _connection: object) -> None:
        self.counts.append(0)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_much_is_removed_in_many_short_transactions(
    kind: str, tmp_path: Path, new_postgres: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    made = _sqlite(tmp_path / "store.db") if kind == "sqlite" else _postgres(new_postgres())
    async with _watched(made) as watched, Store(watched.engine, event_ttl=60, clock=clock) as store:
        for stream_id in ("1", "2", "3"):
            await fill(store, "session", stream_id, 1700)
        ids = await fill(store, "other", "1", 2500)
        removals = Removals(watched.engine, monkeypatch)
        assert await store.delete_before("other", ids[-1]) == 2499
        clock.advance(seconds=60)
        assert (await store.purge()).events == 5101
        assert sum(removals.counts) == 7600
        # How many at a time follows the time that it took.
        assert max(removals.counts) <= 1000


# What is no engine for us


async def test_what_is_no_async_engine_is_refused(tmp_path: Path) -> None:
    sync = sa.create_engine("sqlite://")
    wrong: list[Any] = [sync, tmp_path / "x.db", None, 1]
    for source in wrong:
        with pytest.raises(InvalidDSN, match="create_async_engine"):
            await Store(source).open()
    sync.dispose()


async def test_errors_show_neither_the_engine_s_password_nor_what_was_written(
    new_postgres: Callable[[], str], tmp_path: Path
) -> None:
    async with _watched(_sqlite(tmp_path / "store.db")) as watched, Store(watched.engine) as store:
        with closing(sqlite3.connect(tmp_path / "store.db")) as file:
            file.execute("DROP TABLE mcp_events")
        with pytest.raises(PersistError) as caught:
            await store.append("session", "1", "hunter2")
        assert "hunter2" not in str(caught.value)
        assert "mcp-persist-sa check" in str(caught.value)


async def test_two_stores_share_one_engine(new_postgres: Callable[[], str]) -> None:
    async with (
        _watched(_postgres(new_postgres(), pool_size=2, max_overflow=0)) as watched,
        Store(watched.engine, namespace="a") as one,
        Store(watched.engine, namespace="b") as other,
    ):
        await asyncio.gather(*(store.append("session", "1", "x") for store in (one, other) for _ in range(20)))
        assert (await one.stream("session", "1")).count == 20
        await one.close()
        assert (await other.stream("session", "1")).count == 20


async def test_an_option_for_connections_of_our_own_does_not_touch_the_engine(new_postgres: Callable[[], str]) -> None:
    async with _watched(_postgres(new_postgres(), pool_size=2, max_overflow=0)) as watched:
        async with Store(watched.engine, pool_size=7, connect_args={"xyzzy": 1}) as store:
            await _use(store)
        assert watched.connects <= 2 + 1


async def test_the_same_data_are_seen_through_an_engine_and_through_a_dsn(tmp_path: Path) -> None:
    async with (
        _watched(_sqlite(tmp_path / "store.db")) as watched,
        Store(watched.engine) as one,
        open_store(f"sqlite:///{tmp_path / 'store.db'}") as other,
    ):
        ids = await fill(one, "session", "1", 3)
        assert len((await other.read("session", after=ids[0])).events) == 2
        ids += await fill(other, "session", "1", 1)
        assert len((await one.read("session", after=ids[2])).events) == 1
