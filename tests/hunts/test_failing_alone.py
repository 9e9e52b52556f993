"""What the database itself refuses fails alone; what it puts off is tried again."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mcp_persist_sa import Event, Gap, NewEvent, PersistError, Store, StoreUnavailable, StreamClaimed, direct
from mcp_persist_sa.faults import DriverError
from tests.contract.support import to_the_end
from tests.databases import Database
from tests.hunts.operations import APPENDS, WRITES, prepare, use_everything
from tests.hunts.support import Pools, bounded, check_nothing_left, check_once, check_streams, eventually, stored_rows

POISON = "poison"

REFUSE_SQLITE = f"""
CREATE TRIGGER refuse BEFORE INSERT ON mcp_events WHEN NEW.message LIKE '%{POISON}%'
BEGIN SELECT RAISE(ABORT, 'refused by the test'); END;
"""
REFUSE_POSTGRES = f"""
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON mcp_events FOR EACH ROW
    WHEN (NEW.message LIKE '%{POISON}%') EXECUTE FUNCTION refuse();
"""


async def run_script(database: Database, script: str) -> None:
    """Run statements past the store."""
    if not database.is_postgres:
        with closing(sqlite3.connect(database.dsn.removeprefix("sqlite:///"))) as file:
            file.executescript(script)
        return
    connection: Any = await asyncpg.connect(database.dsn)
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def _refusing(database: Database) -> Store:
    """A store whose database refuses messages that are poison."""
    store = await database.open()
    await run_script(database, REFUSE_POSTGRES if database.is_postgres else REFUSE_SQLITE)
    return store


@pytest.mark.parametrize("poisoned", [0, 7, 19])
async def test_an_event_that_the_database_refuses_fails_alone(
    sql_database: Database, poisoned: int, pools: Pools
) -> None:
    store = await _refusing(sql_database)
    texts = [POISON if n == poisoned else f"good {n}" for n in range(20)]
    results = await bounded(*(store.append("session", f"{n % 3}", text) for n, text in enumerate(texts)))
    assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [poisoned]
    error = results[poisoned]
    assert isinstance(error, PersistError)
    assert not isinstance(error, StoreUnavailable)
    assert "refused by the test" in str(error)
    rows = await stored_rows(sql_database)
    check_streams(rows)
    check_once(rows, {id_: text for id_, text in zip(results, texts, strict=True) if text != POISON})
    assert len(rows) == 19
    await check_nothing_left(sql_database, pools)


async def test_all_events_of_one_call_fail_together(sql_database: Database) -> None:
    store = await _refusing(sql_database)
    batches = [["a", "b"], ["c", POISON, "d"], ["e", "f"]]
    results = await bounded(
        *(store.append_many("session", "1", [NewEvent(text) for text in texts]) for texts in batches)
    )
    assert [isinstance(result, PersistError) for result in results] == [False, True, False]
    assert [row.message for row in await stored_rows(sql_database)] == ["a", "b", "e", "f"]


async def test_a_final_event_that_the_database_refuses_leaves_its_stream_open(sql_database: Database) -> None:
    store = await _refusing(sql_database)
    results = await bounded(
        store.append("session", "1", "before"),
        store.append("session", "1", POISON, final=True),
        store.append("session", "1", "after"),
    )
    assert [isinstance(result, PersistError) for result in results] == [False, True, False]
    rows = await stored_rows(sql_database)
    assert [row.message for row in rows] == ["before", "after"]
    check_streams(rows)


@pytest.mark.parametrize("poisoned", [0, 2, 4])
async def test_a_claimed_event_that_the_database_refuses_is_a_gap(sql_database: Database, poisoned: int) -> None:
    store = await _refusing(sql_database)
    writer = store.claim("session", "1")
    receipts = [writer.append(POISON if n == poisoned else f"good {n}") for n in range(5)]
    results = await bounded(*(receipt.durable() for receipt in receipts), store.append("session", "2", "another"))
    assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [poisoned]
    assert not isinstance(results[poisoned], StoreUnavailable | StreamClaimed)
    await writer.append("end", final=True).durable()
    items = await to_the_end(store, "session", stream_id="1")
    expected: list[Any] = [*(Gap(n + 1, n + 1) if n == poisoned else f"good {n}" for n in range(5)), "end"]
    assert [item.message if isinstance(item, Event) else item for item in items] == expected
    assert (await store.stream("session", "1")).finished


# What is put off

DEADLOCKS = """
CREATE SEQUENCE fuse;
CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('fuse') <= {times} THEN RAISE EXCEPTION 'put off by the test' USING ERRCODE = '{state}'; END IF;
    RETURN NEW;
END $$;
"""
PUT_OFF = """
CREATE TRIGGER put_off BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION put_off();
"""


@pytest.fixture
async def new_postgres_database(new_postgres: Callable[[], str]) -> AsyncIterator[Database]:
    """A database on Postgres alone."""
    database = Database("postgres", new_postgres())
    yield database
    await database.close()


@contextmanager
def _errors_counted() -> Generator[list[str], None, None]:
    """The errors that the driver has raised, to SQLAlchemy or to the store itself."""
    seen: list[str] = []

    def note(context: sa.ExceptionContext) -> None:
        seen.append(str(context.original_exception))

    class Noted(DriverError):
        def __init__(self, said: str) -> None:
            super().__init__(said)
            seen.append(said)

    event.listen(sa.Engine, "handle_error", note)
    try:
        with patch.object(direct, "DriverError", Noted):
            yield seen
    finally:
        event.remove(sa.Engine, "handle_error", note)


@pytest.mark.parametrize("state", ["40P01", "40001", "55P03"])
@pytest.mark.parametrize("operation", ["append", "append_many", "claim", "sessions.create", "state.set"])
async def test_what_a_deadlock_undoes_is_tried_again(
    new_postgres_database: Database, operation: str, state: str, pools: Pools
) -> None:
    store = await new_postgres_database.open()
    await prepare(store)
    await run_script(new_postgres_database, DEADLOCKS.format(times=3, state=state))
    for table in ("mcp_events", "mcp_sessions", "mcp_session_state"):
        await run_script(new_postgres_database, PUT_OFF.format(table=table))
    with _errors_counted() as errors:
        (result,) = await bounded((APPENDS | WRITES)[operation](store, "tag"))
    assert not isinstance(result, Exception), result
    assert len([error for error in errors if "put off by the test" in error]) == 3
    rows = await stored_rows(new_postgres_database)
    check_streams(rows)
    check_once(rows, {})
    await use_everything(store, "after")
    await check_nothing_left(new_postgres_database, pools)


async def test_writers_that_lock_streams_in_different_orders_do_not_stop_each_other(
    new_postgres_database: Database,
) -> None:
    """Real deadlocks, if there were any: two nodes whose batches hold the same streams in opposite orders."""
    nodes = [await new_postgres_database.open() for _ in range(2)]
    names = [f"{n}" for n in range(10)]
    with _errors_counted() as errors:
        for turn in range(20):
            orders = [names, names[::-1]]
            await asyncio.gather(
                *(
                    node.append("session", name, f"{number}.{turn}.{name}")
                    for number, (node, order) in enumerate(zip(nodes, orders, strict=True))
                    for name in order
                )
            )
    rows = await stored_rows(new_postgres_database)
    check_streams(rows)
    assert len(rows) == 400
    assert errors == []


@pytest.mark.parametrize("name", [*APPENDS, *WRITES])
async def test_a_write_waits_for_a_file_that_another_process_holds(tmp_path: Path, name: str) -> None:
    database = Database("sqlite", f"sqlite:///{tmp_path / 'store.db'}")
    # The driver gives up at once, so that it is the store that tries again.
    store = await database.open(connect_args={"timeout": 0.001})
    await prepare(store)
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other, _errors_counted() as errors:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future((APPENDS | WRITES)[name](store, "tag"))
        await eventually("the store has met the lock twice", lambda: writing.done() or len(errors) > 1)
        # What changes nothing need not wait.
        waited = not writing.done()
        other.execute("ROLLBACK")
        (result,) = await bounded(writing)
    assert not isinstance(result, Exception), result
    assert waited
    assert all("locked" in error for error in errors)
    await database.close()


async def test_a_file_that_another_process_holds_for_too_long_is_unavailable(tmp_path: Path) -> None:
    database = Database("sqlite", f"sqlite:///{tmp_path / 'store.db'}")
    store = await database.open(timeout=0.3)
    await prepare(store)
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writes = {name: call for name, call in (APPENDS | WRITES).items() if name != "claim"}
        results = await bounded(*(call(store, name.replace(" ", "-")) for name, call in writes.items()))
        wrong = [name for name, result in zip(writes, results, strict=True) if not isinstance(result, StoreUnavailable)]
        assert not wrong
        assert (await store.read("session", stream_id="1")).events
        other.execute("ROLLBACK")
    await use_everything(await database.open(), "after")
    await database.close()
    assert not any(thread.name.startswith("mcp-persist-sa") for thread in threading.enumerate())
