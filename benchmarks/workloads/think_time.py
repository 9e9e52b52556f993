"""How long a caller waits for an event to be durable, where callers think between their events as servers do."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from random import Random

from mcp_types import JSONRPCMessage

from benchmarks.bench import Bench
from benchmarks.contestants.shape import Store
from benchmarks.messages import SMALL, message

THINKING = 0.02
"""Seconds between two events of a caller, on average; the pauses differ by half of it."""


async def measure(bench: Bench) -> None:
    """Measure some numbers of callers."""
    middle = bench.new_series("latency of a store with 20 ms of thinking, median", unit="ms", better="lower")
    slowest = bench.new_series("latency of a store with 20 ms of thinking, p99", unit="ms", better="lower")
    async with bench.contestants(without=["fastmcp", "bare driver"]) as contestants:
        for callers in bench.choose([50, 200], [50]):
            runs = {
                name: partial(_one_round, store, callers, 0.3)
                for each in contestants
                for name, store in each.ways_to_store.items()
            }
            rounds = await bench.take_turns(runs)
            point = f"{callers} callers"
            middle.record(point, {name: [each[49] for each in figures] for name, figures in rounds.items()})
            slowest.record(point, {name: [each[98] for each in figures] for name, figures in rounds.items()})


async def _one_round(store: Store, callers: int, seconds: float) -> list[float]:
    """The percentiles of the latencies, in milliseconds."""
    latencies: list[float] = []
    text = message(SMALL)
    end = time.perf_counter() + seconds
    await asyncio.gather(*(_caller(store, f"thinking-{n}", text, Random(n), end, latencies) for n in range(callers)))
    return statistics.quantiles(latencies, n=100, method="inclusive")


async def _caller(
    store: Store, stream: str, text: JSONRPCMessage, rng: Random, end: float, latencies: list[float]
) -> None:
    await asyncio.sleep(rng.uniform(0, THINKING))
    while time.perf_counter() < end:
        begin = time.perf_counter()
        await store(stream, text)
        latencies.append((time.perf_counter() - begin) * 1000)
        await asyncio.sleep(rng.uniform(THINKING / 2, THINKING * 3 / 2))
