"""How many events can be stored in a second, by callers that each wait for one to be durable before the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from itertools import cycle, islice
from typing import NamedTuple

from mcp_types import JSONRPCMessage

from benchmarks.bench import Bench
from benchmarks.contestants import Contestant
from benchmarks.contestants.shape import Store
from benchmarks.databases import FULL, NORMAL
from benchmarks.messages import LARGE, SMALL, messages

EVENTS = {1: 300, 10: 800, 50: 1500, 200: 2000, 1000: 2000}
"""For each number of callers, how many events a round has, of the smaller ones."""

_SLOWER = 20
_MOST_CALLERS_OF_SLOW = 10


async def measure(bench: Bench) -> None:
    """Measure each durability and size."""
    await _series(bench, FULL, SMALL, one_stream=False)
    if bench.quick:
        return
    # fastmcp was measured once; the bare driver does not depend on the streams.
    await _series(bench, FULL, SMALL, one_stream=True, without=["fastmcp", "bare driver"])
    await _series(bench, FULL, LARGE, one_stream=False, without=["fastmcp"])
    if bench.backend == "sqlite":
        await _series(bench, NORMAL, SMALL, one_stream=False, without=["fastmcp"], most_callers=50)


async def _series(
    bench: Bench,
    synchronous: str,
    size: int,
    *,
    one_stream: bool,
    without: Collection[str] = (),
    most_callers: int = 1000,
) -> None:
    streams = "one stream for all" if one_stream else "a stream each"
    series = bench.new_series(
        f"store {size} bytes, {streams}", unit="events/s", better="higher", synchronous=synchronous
    )
    processor = bench.new_series(
        f"processor time of a store, {size} bytes, {streams}", unit="us", better="lower", synchronous=synchronous
    )
    async with bench.contestants(synchronous, without=without) as contestants:
        for callers, events in EVENTS.items():
            if (one_stream and callers == 1) or callers > most_callers or (bench.quick and callers not in (1, 50)):
                continue
            count = max(callers, events // (bench.choose(1, 4) * (1 if size == SMALL else 2)))
            runs = _runs(contestants, messages(size), callers, count, one_stream=one_stream)
            point = f"{callers} callers" if callers > 1 else "1 caller"
            rounds = await bench.take_turns(runs)
            series.record(point, {name: [each.throughput for each in results] for name, results in rounds.items()})
            processor.record(point, {name: [each.processor for each in results] for name, results in rounds.items()})


def _runs(
    contestants: list[Contestant], texts: list[JSONRPCMessage], callers: int, events: int, *, one_stream: bool
) -> dict[str, Callable[[], Awaitable[Round]]]:
    runs: dict[str, Callable[[], Awaitable[Round]]] = {}
    streams = [f"of-{callers}"] * callers if one_stream else [f"of-{callers}-{n}" for n in range(callers)]
    for contestant in contestants:
        if contestant.slow and callers > _MOST_CALLERS_OF_SLOW:
            continue
        count = max(callers, events // _SLOWER) if contestant.slow else events
        for name, store in contestant.ways_to_store.items():
            runs[name] = partial(_one_round, store, texts, streams, count)
        if contestant.store_together is not None:
            runs[contestant.name] = partial(_together, contestant, texts, streams, count)
    return runs


class Round(NamedTuple):
    """Events a second, and microseconds of processor time that this process took for each."""

    throughput: float
    processor: float


async def _one_round(store: Store, texts: list[JSONRPCMessage], streams: list[str], events: int) -> Round:
    each = events // len(streams)

    async def call(stream: str) -> None:
        for text in islice(cycle(texts), each):
            await store(stream, text)

    with Clock() as clock:
        await asyncio.gather(*(call(stream) for stream in streams))
    return clock.round(each * len(streams))


async def _together(contestant: Contestant, texts: list[JSONRPCMessage], streams: list[str], events: int) -> Round:
    """The limit: the events of all callers in one transaction, without the callers."""
    assert contestant.store_together is not None
    each = events // len(streams)
    with Clock() as clock:
        for text in islice(cycle(texts), each):
            await contestant.store_together([(stream, text) for stream in streams])
    return clock.round(each * len(streams))


class Clock:
    """Measures a block by both clocks."""

    def __enter__(self) -> Clock:
        self._begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._taken = time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]

    def round(self, events: int) -> Round:
        """For so many events."""
        return Round(events / self._taken[0], self._taken[1] / events * 1e6)
