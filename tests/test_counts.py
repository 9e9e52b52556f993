"""What an operation costs on SQLite, counted instead of timed: statements, commits, and hops between threads.

`test_round_trips.py` counts what goes over the network to Postgres. Syncs of the disk cannot be counted from within:
each commit of the write-ahead log is one, and the commits are counted here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mcp_persist_sa import NewEvent, Store, connections, open_store
from tests.contract.support import fill

Call = Callable[[], Awaitable[Any]]


class Cost(NamedTuple):
    """Of an operation.

    Attributes:
        statements: That SQLite ran; one for all rows where one is run for many.
        commits: Transactions that were written.
        hops: Returns from a thread to the event loop.
    """

    statements: int
    commits: int
    hops: int


def _nobody(*_: Any) -> None:
    """Is told before there is a loop to tell."""


class Counter:
    """Counts what all connections of this process do, whatever runs on them."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.threads: set[tuple[int, str]] = set()
        self.hops = 0
        self.began = asyncio.Event()
        self._tell: Callable[..., Any] = _nobody

    def watch(self, connection: sqlite3.Connection, _record: object) -> None:
        """Note each statement of a connection that the pool has made."""
        connection.set_trace_callback(self._note)

    def _note(self, statement: str) -> None:
        self.statements.append(statement)
        self.threads.add((threading.get_ident(), statement))
        self._tell(self.began.set)

    def watch_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note each call into the event loop from another thread: that is how the outcome of work there comes back."""
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(*words: Any, **named: Any) -> asyncio.Handle:
            self.hops += 1
            return call(*words, **named)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        self._tell = call

    async def cost(self, operation: Call) -> Cost:
        """What an operation costs once its connections are there and its statements compiled."""
        for _ in range(2):
            await operation()
        self.statements.clear()
        self.hops = 0
        await operation()
        kinds = [kind for kind, _ in groupby(statement[:60] for statement in self.statements)]
        return Cost(len(kinds), kinds.count("COMMIT"), self.hops)


@pytest.fixture
def counter() -> Iterator[Counter]:
    made = Counter()
    event.listen(sa.pool.Pool, "connect", made.watch)
    yield made
    event.remove(sa.pool.Pool, "connect", made.watch)


@pytest.fixture
async def store(counter: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    # In the background, the file is watched for what other processes write.
    monkeypatch.setattr(connections, "CHECKPOINT_CHANGES", inf)
    async with open_store(f"sqlite:///{tmp_path / 'store.db'}", pool_size=1, background=False) as opened:
        counter.watch_loop(monkeypatch)
        yield opened


async def test_an_event_is_one_transaction_in_one_hop(counter: Counter, store: Store) -> None:
    writer = store.claim("session", "2")
    calls: list[Call] = [
        lambda: store.append("session", "1", "x"),
        lambda: writer.append("x").durable(),
    ]
    # It begins, finds its stream (or finds that nobody has touched what it knows), inserts the event, and commits.
    assert [await counter.cost(call) for call in calls] == [Cost(statements=4, commits=1, hops=1)] * len(calls)


async def test_a_hundred_events_cost_what_one_does(counter: Counter, store: Store) -> None:
    writer = store.claim("session", "2")

    async def claimed() -> None:
        await asyncio.gather(*(writer.append("x").durable() for _ in range(100)))

    calls: list[Call] = [
        lambda: store.append_many("session", "1", [NewEvent("x")] * 100),
        lambda: asyncio.gather(*(store.append("session", "1", "x") for _ in range(100))),
        lambda: asyncio.gather(*(store.append(f"s{n}", "1", "x") for n in range(100))),
        claimed,
    ]
    assert [await counter.cost(call) for call in calls] == [Cost(statements=4, commits=1, hops=1)] * len(calls)


async def test_what_arrives_during_a_commit_shares_the_next_one(counter: Counter, store: Store) -> None:
    async def two_waves() -> None:
        first = asyncio.ensure_future(store.append("session", "1", "x"))
        counter.began.clear()
        await counter.began.wait()
        await asyncio.gather(first, *(store.append(f"s{n}", "1", "x") for n in range(100)))

    cost = await counter.cost(two_waves)
    assert (cost.commits, cost.hops) == (2, 2)


async def test_a_call_is_one_transaction(counter: Counter, store: Store) -> None:
    async def call() -> None:
        writer = store.claim("session", "2")
        receipts = [writer.append("x", can_wait=True) for _ in range(20)]
        receipts.append(writer.append("x", final=True))
        await asyncio.gather(*(receipt.durable() for receipt in receipts))

    cost = await counter.cost(call)
    assert (cost.commits, cost.hops) == (1, 1)


async def test_the_log_is_brought_into_the_file_beside_the_writer_who_brings_the_rest(
    counter: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the rest the log would never begin anew while one writes without a pause."""
    brought, written = threading.Event(), threading.Event()
    passes: list[int] = []

    def checkpoint(connection: sa.Connection) -> None:
        real_checkpoint(connection)
        passes.append(threading.get_ident())
        brought.set()
        assert written.wait(60)

    real_checkpoint = connections.checkpoint
    monkeypatch.setattr(connections, "checkpoint", checkpoint)
    monkeypatch.setattr(connections, "CHECKPOINT_REST", inf)
    path = tmp_path / "store.db"
    async with open_store(f"sqlite:///{path}", background=False) as store:
        while not brought.is_set():
            await store.append_many("session", "1", [NewEvent("x" * 1000)] * 100)
        await store.append("session", "1", "x")
        written.set()
        while len(passes) < 2:
            await store.sessions.count()
        size = path.with_name("store.db-wal").stat().st_size
        await store.append_many("session", "1", [NewEvent("x" * 1000)] * 100)
        assert path.with_name("store.db-wal").stat().st_size == size
        writers = {thread for thread, statement in counter.threads if "INTO mcp_events" in statement}
    assert {passes[1]} == writers != {passes[0]}


A_PAGE = 4
"""Statements: what the stream is and what it holds, as of one moment, which has a beginning and an end."""


async def test_what_is_read_costs_one_hop_and_writes_nothing(counter: Counter, store: Store) -> None:
    ids = await fill(store, "session", "1", 20)
    await store.sessions.create("session")
    calls: dict[Call, int] = {
        lambda: store.read("session", after=ids[0]): A_PAGE,
        lambda: store.read_before("session", ids[9]): A_PAGE,
        lambda: store.sessions.get("session"): 1,
        lambda: store.sessions.is_open("session"): 1,
    }
    for call, statements in calls.items():
        assert await counter.cost(call) == Cost(statements, commits=0, hops=1)


async def test_a_replay_costs_a_hop_a_page(counter: Counter, store: Store) -> None:
    ids = await store.append_many("session", "1", [*[NewEvent("x")] * 1499, NewEvent("x", final=True)])

    async def replay() -> None:
        assert len([item async for item in store.tail("session", after=ids[0])]) == 1499

    # The first page is a small one, so that its events are soon there.
    pages = 1 + -(-(1499 - 128) // store.options.page_events)
    assert await counter.cost(replay) == Cost(statements=pages * A_PAGE, commits=0, hops=pages)


async def test_a_tail_that_is_woken_costs_one_hop_an_event(counter: Counter, store: Store) -> None:
    tail = store.tail("session", stream_id="1")
    await store.append("session", "1", "x")
    await anext(tail)

    async def follow() -> None:
        item = asyncio.ensure_future(anext(tail))
        await store.append("session", "1", "x")
        await item

    cost = await counter.cost(follow)
    # One to write; to read, one, or one more where the tail looked while nothing was there.
    assert cost.commits == 1
    assert 2 <= cost.hops <= 3
    await tail.aclose()
