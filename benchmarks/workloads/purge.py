"""How long a writer waits at worst while a million expired events are removed, and how fast they are."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks import contestants, rows
from benchmarks.bench import Bench
from benchmarks.contestants import Contestant, mcp_persist, ours
from benchmarks.contestants.shape import Store
from benchmarks.messages import SMALL, message

WRITERS = 10
PAUSE = 0.002
OLDER = 36 * 60 * 60
"""Seconds: an event is kept for a day, and its stream for another one."""

_PATIENCE = 5.0
_BEFORE = 0.5
_PER_STREAM = 100


async def measure(bench: Bench) -> None:
    """Measure each way to purge, with a table of its own."""
    if bench.backend not in rows.BACKENDS:
        return
    stall = bench.new_series("longest stall of a writer during a purge", unit="ms", better="lower")
    usual = bench.new_series("p99 of a writer during a purge", unit="ms", better="lower")
    rate = bench.new_series("purge", unit="events/s", better="higher")
    count = bench.choose(1_000_000, 20_000)
    point = f"{count:,} expired events, {WRITERS} writers"
    for name in (mcp_persist.NAME, ours.NAME):
        for way in await _ways(bench, name):
            async with bench.database() as database, contestants.ALL[name](database) as contestant:
                await rows.fill(name, database, rows.Rows(0, count, count // _PER_STREAM, OLDER))
                await rows.settle(database)
                latencies, stored, seconds = await _purge_under_writers(contestant, way)
                left = await rows.count(name, database) - stored
            latencies.sort()
            stall.record(point, {way: [latencies[-1]]})
            usual.record(point, {way: [latencies[len(latencies) * 99 // 100]]})
            rate.record(point, {way: [(count - left) / seconds]})


async def _ways(bench: Bench, name: str) -> list[str]:
    async with bench.database() as database, contestants.ALL[name](database) as contestant:
        return [*contestant.ways_to_purge]


async def _purge_under_writers(contestant: Contestant, way: str) -> tuple[list[float], int, float]:
    """The latencies of writers meanwhile in milliseconds, all that they stored, and how many seconds it took."""
    store = next(iter(contestant.ways_to_store.values()))
    latencies: list[float] = []
    done = asyncio.Event()
    writers = [asyncio.ensure_future(_write(store, f"writer-{n}", latencies, done)) for n in range(WRITERS)]
    await asyncio.sleep(_BEFORE)
    before = len(latencies)
    begin = time.perf_counter()
    purge: asyncio.Future[Any] = asyncio.ensure_future(contestant.ways_to_purge[way]())
    await asyncio.wait([purge], timeout=_PATIENCE)
    purge.cancel()
    await asyncio.wait([purge])
    seconds = time.perf_counter() - begin
    done.set()
    await asyncio.gather(*writers)
    return latencies[before:], len(latencies), seconds


async def _write(store: Store, stream: str, latencies: list[float], done: asyncio.Event) -> None:
    text = message(SMALL)
    while not done.is_set():
        begin = time.perf_counter()
        await store(stream, text)
        latencies.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(PAUSE)
