"""How long from an append to its delivery to whoever follows the stream, at the same node and at another.

The nodes are two stores in this process that know nothing of each other.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

from mcp_types import JSONRPCMessage

from benchmarks.bench import Bench
from benchmarks.contestants import mcp_persist, ours
from benchmarks.databases import Database
from benchmarks.messages import SMALL, message
from mcp_persist_sa import Store

EVENTS = 10
LOAD = 1000
"""Events a second that are stored beside, in as many streams as there are in a tenth of it."""

_PAUSE = 0.02
_PATIENCE = 30


class Node(NamedTuple):
    """A store that can be followed.

    Attributes:
        store: Stores a message in a stream.
        follow: Gives what is stored in a stream from now on.
    """

    store: Callable[[str, JSONRPCMessage], Awaitable[Any]]
    follow: Callable[[str], AsyncGenerator[Any, None]]


@asynccontextmanager
async def _ours(database: Database) -> AsyncGenerator[Node, None]:
    async with ours.open_ours(database) as store:
        yield Node(ours.Ours(store).append, partial(_tail, store))


def _tail(store: Store, stream: str) -> AsyncGenerator[Any, None]:
    return store.tail(stream, stream_id="1", from_now=True)


@asynccontextmanager
async def _peer(database: Database) -> AsyncGenerator[Node, None]:
    async with mcp_persist.open_peer(database, enable_streaming=True) as store:
        yield Node(store.store_event, store.subscribe)


async def measure(bench: Bench) -> None:
    """Measure both packages, by turns."""
    series = bench.new_series("delay from an append to its delivery", unit="ms", better="lower")
    async with AsyncExitStack() as stack:
        pairs: dict[str, list[Node]] = {}
        for name, opening in ((mcp_persist.NAME, _peer), (ours.NAME, _ours)):
            database = await stack.enter_async_context(bench.database())
            pairs[name] = [await stack.enter_async_context(opening(database)) for _ in range(2)]
        for load in bench.choose([0, LOAD], [0]):
            for place, point in enumerate(("same node", "another node")):
                runs = {name: partial(_under_load, pair[0], pair[place], load) for name, pair in pairs.items()}
                beside = f", {load:,} events/s beside" if load else ""
                await bench.compare(series, f"{point}{beside}", runs)


async def _under_load(writer: Node, reader: Node, load: int) -> float:
    beside = asyncio.ensure_future(_store_beside(writer, load))
    try:
        return await _one_round(writer, reader)
    finally:
        beside.cancel()
        await asyncio.wait([beside])


async def _store_beside(writer: Node, load: int) -> None:
    """So many events a second, in batches of what is due."""
    text, begin, stored = message(SMALL), time.perf_counter(), 0
    while load:
        due = int(load * (time.perf_counter() - begin))
        await asyncio.gather(*(writer.store(f"beside-{n % (LOAD // 10)}", text) for n in range(stored, due)))
        stored = due
        await asyncio.sleep(0.005)


async def _one_round(writer: Node, reader: Node) -> float:
    """The median of some events, in milliseconds."""
    stream = f"followed-{time.monotonic_ns()}"
    await writer.store(stream, message(SMALL))
    arrivals: list[float] = []

    async def follow() -> None:
        async with aclosing(reader.follow(stream)) as events:
            async for _ in events:
                arrivals.append(time.perf_counter())
                if len(arrivals) == EVENTS:
                    return

    following = asyncio.ensure_future(follow())
    # There is no sign of a subscription of the peer's having begun.
    await asyncio.sleep(10 * _PAUSE)
    begun: list[float] = []
    for _ in range(EVENTS):
        begun.append(time.perf_counter())
        await writer.store(stream, message(SMALL))
        await asyncio.sleep(_PAUSE)
    await asyncio.wait_for(following, _PATIENCE)
    return statistics.median((end - begin) * 1000 for begin, end in zip(begun, arrivals, strict=True))
