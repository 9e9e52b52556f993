"""A database that can be read and not written: a standby, a role without the right, a full disk."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine

from mcp_persist_sa import AccessDenied, NewEvent, OutcomeUnknown, Store, StoreUnavailable, configure_sqlite, upgrade
from tests.contract.support import messages
from tests.databases import Database
from tests.hunts.operations import APPENDS, READS, WRITES, Operation, prepare, use_everything
from tests.hunts.support import PATIENCE, Pools, bounded, check_intact, check_nothing_left, eventually
from tests.nodes.outages import can_mount
from tests.servers import PostgresServer
from tests.servers.dsns import Dsn
from tests.servers.processes import REPOSITORY

IMPATIENT: dict[str, Any] = {"timeout": 1}
REFUSED: dict[str, Operation] = {name: call for name, call in (APPENDS | WRITES).items() if name != "claim"}


async def _refused(store: Store, kind: type[Exception], said: str) -> None:
    """Reads work; every write ends with an error that says why.

    Not at once where so many are too much for the patience of the store on a busy machine.
    """

    async def reads_work() -> bool:
        found = await bounded(*(call(store, f"read.{n}") for n, call in enumerate(READS.values())))
        return not any(isinstance(result, Exception) for result in found)

    async def writes_say_why() -> bool:
        results = await bounded(*(call(store, f"write.{n}") for n, call in enumerate(REFUSED.values())))
        found = dict(zip(REFUSED, results, strict=True))
        # Whoever gives up while the store is trying once more cannot know.
        assert all(isinstance(result, kind | OutcomeUnknown) for result in results), found
        known = [result for name, result in found.items() if name not in APPENDS]
        return all(isinstance(result, kind) for result in known) and all(said in str(result) for result in results)

    await eventually("reads work", reads_work)
    await eventually("writes say why", writes_say_why)


async def test_a_standby_serves_reads_and_takes_writes_when_it_is_promoted(
    own_postgres: PostgresServer, pools: Pools
) -> None:
    dsn = own_postgres.create_database("hunt")
    await upgrade(dsn)
    database = Database("postgres", dsn)
    await prepare(await database.open())
    await database.close()
    await asyncio.to_thread(own_postgres.stop)
    signal_file = own_postgres.folder / "data" / "standby.signal"
    signal_file.touch()
    owner = own_postgres.folder.stat()
    os.chown(signal_file, owner.st_uid, owner.st_gid)
    await asyncio.to_thread(own_postgres.start)
    store = await database.open(**IMPATIENT)
    await _refused(store, StoreUnavailable, "read-only transaction")
    receipt = store.claim("session", "own").append("from the standby")
    connection: Any = await asyncpg.connect(dsn)
    await connection.execute("SELECT pg_promote()")
    await connection.close()
    assert await bounded(receipt.durable()) == [receipt.event_id]
    await use_everything(await database.open(), "after")
    await check_nothing_left(database, pools)
    await database.close()


@pytest.fixture
async def reader(
    request: pytest.FixtureRequest, new_postgres: Callable[[], str], postgres_server: PostgresServer
) -> AsyncIterator[tuple[Database, Database]]:
    """A database as the owner of the tables opens it, and as a role does that may only read."""
    dsn = new_postgres()
    name = f"reader_{Dsn.parse(dsn).database}"
    connection: Any = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'reader'")
    await connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    read_only = str(Dsn.parse(dsn)._replace(user=name, password="reader"))
    databases = Database("postgres", dsn), Database("postgres", read_only)
    yield databases
    for database in databases:
        await database.close()
    await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    await connection.close()


async def test_a_role_that_may_only_read_is_told_so(reader: tuple[Database, Database], pools: Pools) -> None:
    owners, readers = reader
    await prepare(await owners.open())
    await _refused(await readers.open(**IMPATIENT), AccessDenied, "permission denied")
    await use_everything(await owners.open(), "after")
    await check_nothing_left(owners, pools)


async def test_what_is_not_allowed_is_told_at_once_but_what_is_claimed_is_tried_on(
    reader: tuple[Database, Database],
) -> None:
    owners, readers = reader
    await prepare(await owners.open())
    store = await readers.open(timeout=2 * PATIENCE)
    (denied,) = await bounded(store.append("session", "many", "x"))
    assert isinstance(denied, AccessDenied)
    receipt = store.claim("session", "own").append("first")
    connection: Any = await asyncpg.connect(owners.dsn)
    role = Dsn.parse(readers.dsn).user
    await connection.execute(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    await connection.close()
    assert await bounded(receipt.durable()) == [receipt.event_id]
    assert messages(await store.read("session", stream_id="own")) == ["first"]


async def test_a_connection_that_only_reads_is_told_so(new_postgres: Callable[[], str], pools: Pools) -> None:
    database = Database("postgres", new_postgres())
    await prepare(await database.open())
    only_reads = {"connect_args": {"server_settings": {"default_transaction_read_only": "on"}}}
    await _refused(await database.open(**IMPATIENT, **only_reads), StoreUnavailable, "read-only transaction")
    await check_nothing_left(database, pools)
    await database.close()


# A full disk


async def _fill_up(store: Store) -> list[str]:
    """Append until there is no room left, and give what was acknowledged."""
    stored: list[str] = []
    while True:
        texts = [f"{len(stored) + n} {'x' * 2000}" for n in range(10)]
        (result,) = await bounded(store.append_many("session", "many", [NewEvent(text) for text in texts]))
        if isinstance(result, Exception):
            assert isinstance(result, StoreUnavailable)
            assert "full" in str(result)
            return stored
        stored += texts


async def is_full_and_recovers(store: Store, database: Database, make_room: Callable[[], None]) -> None:
    """Fill the disk, see what is refused and what is not, make room, and see that all is well."""
    await prepare(store)
    stored = await _fill_up(store)
    assert stored
    (error,) = await bounded(store.state("session").set("large", "x" * 100_000))
    assert isinstance(error, StoreUnavailable)
    assert "full" in str(error)
    receipt = store.claim("session", "own").append("x" * 100_000)
    assert messages(await store.read("session", stream_id="1")) == ["begin"]
    assert not receipt.stored
    make_room()
    assert await bounded(receipt.durable()) == [receipt.event_id]
    await use_everything(store, "after")
    found: list[str | None] = []
    page = await store.read("session", stream_id="many")
    found += messages(page)
    while page.more:
        page = await store.read("session", after=page.event_id)
        found += messages(page)
    assert found == stored
    check_intact(database)


async def test_a_file_that_may_not_grow_is_unavailable_until_it_may(tmp_path: Path, pools: Pools) -> None:
    """SQLite's own limit of pages stands in for a full disk, and gives the same error."""
    database = Database("sqlite", f"sqlite:///{tmp_path / 'store.db'}")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    configure_sqlite(engine)
    pages = 150

    def limit(connection: Any, *_: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        cursor.close()

    event.listen(engine.sync_engine, "checkout", limit)

    def make_room() -> None:
        nonlocal pages
        pages = 100_000

    async with Store(engine, **IMPATIENT) as store:
        await is_full_and_recovers(store, database, make_room)
        await check_nothing_left(database, pools)
    await engine.dispose()


if can_mount():

    async def test_a_disk_that_is_full_is_unavailable_until_there_is_room(tmp_path: Path) -> None:
        command = ["unshare", "--mount", sys.executable, "-m", "tests.hunts.child_full_disk", str(tmp_path)]
        child = await asyncio.create_subprocess_exec(*command, cwd=REPOSITORY, stderr=asyncio.subprocess.PIPE)
        _, errors = await child.communicate()
        assert child.returncode == 0, errors.decode()
