"""Retention that runs by itself: one node at a time does it, and one that dies is replaced."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from mcp_persist_sa import Purged, Store, StoreUnavailable
from mcp_persist_sa.backends.sql.chunks import Chunks
from mcp_persist_sa.janitor import Janitor
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import TendingBackend
from tests.contract import beside
from tests.contract.support import PATIENCE, Clock, fill
from tests.databases import Database
from tests.operations.support import until
from tests.servers import ChildProcess

LEASE, PAUSE = timedelta(seconds=15), timedelta(seconds=60)
ONE, OTHER = "1" * 16, "2" * 16
AWAY = StoreUnavailable("the database is away")


async def test_a_node_removes_what_has_expired_by_itself(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60, purge_interval=0.01)
    await store.sessions.create("session")
    await fill(store, "session", "1", 300)
    clock.advance(hours=1)
    await fill(store, "other", "1", 2)
    await store.join()

    async def counts() -> tuple[int, int]:
        stats = await store.stats(exact=True)
        return stats.events, stats.sessions

    await until(lambda found: found == (2, 0), counts)


async def test_one_has_the_duty_until_its_lease_is_over(shared_database: Database, clock: Clock) -> None:
    one, other = [(await shared_database.open(clock=clock)).backend for _ in range(2)]
    assert await one.tend(ONE, LEASE, PAUSE) == Purged()
    clock.advance(seconds=74)
    assert await other.tend(OTHER, LEASE, PAUSE) is None
    assert await one.tend(ONE, LEASE, PAUSE) == Purged()
    clock.advance(seconds=74)
    assert await other.tend(OTHER, LEASE, PAUSE) is None
    clock.advance(seconds=1)
    assert await other.tend(OTHER, LEASE, PAUSE) == Purged()
    assert await one.tend(ONE, LEASE, PAUSE) is None
    await one.leave_tending(ONE)
    assert await one.tend(ONE, LEASE, PAUSE) is None
    await other.leave_tending(OTHER)
    assert await one.tend(ONE, LEASE, PAUSE) == Purged()


async def test_each_round_removes_what_has_expired_since_the_last(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60)
    tend = store.backend.tend
    assert await tend(ONE, LEASE, PAUSE) == Purged()
    for forgotten in (0, 1, 1):
        await fill(store, "session", "open", 3)
        await fill(store, "session", "finished", 4, final=True)
        clock.advance(seconds=60)
        # A stream is forgotten when its events would have expired twice over.
        assert await tend(ONE, LEASE, PAUSE) == Purged(streams=forgotten, events=7)


async def test_each_namespace_has_its_own(shared_database: Database) -> None:
    for namespace in ("", "one", "two"):
        store = await shared_database.open(namespace=namespace)
        assert await store.backend.tend(ONE if namespace else OTHER, LEASE, PAUSE) == Purged()


async def _with_old_events(database: Database, clock: Clock) -> Store:
    """A store that holds a thousand events which have expired."""
    store = await database.open(clock=clock, event_ttl=60)
    await fill(store, "session", "1", 1000)
    clock.advance(hours=1)
    return store


async def test_of_one_that_was_slow_nothing_more_is_done(
    sql_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await _with_old_events(sql_database, clock)
    began, go_on = asyncio.Event(), asyncio.Event()
    write = Chunks.write

    async def write_slowly(self: Chunks, work: Any, *, atomic: bool = True) -> Any:
        result = await write(self, work, atomic=atomic)
        began.set()
        await go_on.wait()
        return result

    with monkeypatch.context() as slowly:
        slowly.setattr(Chunks, "write", write_slowly)
        working = asyncio.ensure_future(slow.backend.tend(ONE, LEASE, PAUSE))
        await asyncio.wait_for(began.wait(), PATIENCE)
    left = await beside.count(sql_database, "events")
    assert 0 < left < 1000
    other = await sql_database.open(clock=clock, event_ttl=60)
    assert await other.backend.tend(OTHER, LEASE, PAUSE) is None
    clock.advance(seconds=15)
    # The other one takes over, and is itself not done when the slow one goes on.
    await fill(other, "session", "2", 500)
    clock.advance(hours=1)
    taken_over = await other.backend.tend(OTHER, LEASE, PAUSE)
    assert taken_over is not None
    assert taken_over.events == left + 500
    await fill(other, "session", "3", 500)
    clock.advance(seconds=70)
    go_on.set()
    assert await asyncio.wait_for(working, PATIENCE) is None
    assert await beside.count(sql_database, "events") == 500


async def test_one_whose_lease_ran_out_goes_on_if_nobody_has_taken_it(
    sql_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await _with_old_events(sql_database, clock)
    write = Chunks.write

    async def write_slowly(self: Chunks, work: Any, *, atomic: bool = True) -> Any:
        clock.advance(seconds=20)
        return await write(self, work, atomic=atomic)

    monkeypatch.setattr(Chunks, "write", write_slowly)
    removed = await store.backend.tend(ONE, LEASE, PAUSE)
    assert removed is not None
    assert removed.events == 1000


async def test_one_that_is_killed_is_replaced(distinct_database: Database) -> None:
    # So many sessions, because that is what a purge on Redis goes through; SQL counts events.
    sessions, each = 2_000, 10
    past = Clock()
    past.advance(days=-3650)
    store = await distinct_database.open(clock=past)
    for first in range(0, sessions, 200):
        await asyncio.gather(*(fill(store, str(first + n), "1", each) for n in range(200)))
    options = {"purge_interval": 0.05, "node_lease": 1}
    arguments = json.dumps([distinct_database.dsn, options])

    async def left() -> int:
        return await beside.count(distinct_database, "events")

    async with ChildProcess("-m", "tests.operations.child_node", arguments, timeout=PATIENCE) as child:
        node_id = await child.read_line()
        await until(lambda found: found < sessions * each, left)
        assert await beside.on_duty(distinct_database) == [node_id]
        standing_by = await distinct_database.open(**options)
        await standing_by.join()
        await child.kill()
    assert await left() > 0
    await until(lambda found: found == 0, left)
    assert await beside.on_duty(distinct_database) == [standing_by.node_id]


async def test_one_that_leaves_is_replaced_at_once(shared_database: Database) -> None:
    options: dict[str, Any] = {"purge_interval": 0.01, "node_lease": 3600}
    leaving, staying = await shared_database.open(**options), await shared_database.open(**options)
    await leaving.join()

    async def holders() -> list[str]:
        return await beside.on_duty(shared_database)

    await until(bool, holders)
    await staying.join()
    assert await holders() == [leaving.node_id]
    await leaving.close()
    await until(lambda found: found == [staying.node_id], holders)


class Failing(TendingBackend):
    """Fails the first time."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0
        self.came_again = asyncio.Event()

    async def tend(self, node_id: str, lease: timedelta, pause: timedelta) -> Purged | None:
        self.calls += 1
        if self.calls == 1:
            raise self.error
        self.came_again.set()
        return Purged(events=7)

    async def leave_tending(self, node_id: str) -> None:
        raise AWAY


@pytest.mark.parametrize("error", [AWAY, ZeroDivisionError("the database is away")], ids=["ours", "unexpected"])
async def test_a_round_that_fails_is_said_and_tried_again(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    caplog.set_level("INFO")
    failing = Failing(error)
    janitor = Janitor(failing, Options(purge_interval=0.01))
    janitor.start(ONE)
    await asyncio.wait_for(failing.came_again.wait(), PATIENCE)
    await asyncio.sleep(0)
    await janitor.stop()
    assert "could not be removed; it is tried again" in caplog.text
    assert "the database is away" in caplog.text
    assert ("Traceback" in caplog.text) is (error is not AWAY), "only what nobody expects is told at length"
    assert "7 events" in caplog.text
    assert "when this node's lease is over" in caplog.text


@pytest.mark.parametrize("options", [{"purge_interval": None}, {"background": False, "purge_interval": 0.01}])
async def test_where_it_is_by_command_nothing_runs(options: dict[str, Any]) -> None:
    failing = Failing(AWAY)
    janitor = Janitor(failing, Options(**options))
    janitor.start(ONE)
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(failing.came_again.wait(), 0.05)
    await janitor.stop()
    assert failing.calls == 0
