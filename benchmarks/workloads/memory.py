"""How many bytes of the memory of Redis an event takes, with all that is kept beside it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

from mcp_types import JSONRPCMessage

from benchmarks import contestants
from benchmarks.bench import Bench
from benchmarks.databases import Database
from benchmarks.figures import Series
from benchmarks.messages import LARGE, SMALL, messages

EVENTS = 3000
_MOST_OF_SLOW = 100


async def measure(bench: Bench) -> None:
    """Measure short streams and long ones."""
    if bench.backend != "redis":
        return
    redis: Any = importlib.import_module("redis.asyncio")
    async with bench.database() as database, redis.from_url(database.dsn) as client:
        for size in (SMALL, LARGE):
            series = bench.new_series(f"memory of an event, {size} bytes", unit="bytes", better="lower")
            some = messages(size)
            for length in bench.choose([3, 1000], [3]):
                await _point(bench, client, series, [*islice(cycle(some), length)])


async def _point(bench: Bench, client: Any, series: Series, stream: Sequence[JSONRPCMessage]) -> None:
    figures: dict[str, list[float]] = {}
    events = bench.choose(EVENTS, 300)
    for name, opening in contestants.ALL.items():
        async with bench.database() as database:
            # What is taken once, such as its scripts.
            if not await _fill(opening, database, ["first"], stream):
                continue
            before = await _used(client)
            await _fill(opening, database, [f"stream-{n}" for n in range(events // len(stream))], stream)
            figures[name] = [(await _used(client) - before) / events]
    series.record(f"{len(stream):,} a stream", figures)


async def _fill(opening: Any, database: Database, names: list[str], stream: Sequence[JSONRPCMessage]) -> bool:
    """Whether it was done, for it would take some too long."""
    async with opening(database) as contestant:
        if contestant.slow and len(stream) > _MOST_OF_SLOW:
            return False
        for name in names:
            await contestant.fill(name, stream)
    return True


async def _used(client: Any) -> int:
    """When this is the only connection, because each takes memory too, and when all that was removed is freed."""
    while True:
        info = await client.info()
        if info["connected_clients"] == 1 and not info["lazyfree_pending_objects"]:
            return info["used_memory"]
        await asyncio.sleep(0.01)
