"""Many tails in one process: how soon all have an event that was stored for each, and what they cost while idle."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contestants import ours
from benchmarks.messages import SMALL, message
from benchmarks.server import resident
from mcp_persist_sa import Store
from mcp_persist_sa.integrations.sdk import wire_text

_PATIENCE = 60
_HERE = Path("/proc/self")


async def measure(bench: Bench) -> None:
    """Measure some numbers of tails; nobody else has what can be compared."""
    us = ours.NAME
    delay = bench.new_series("an event to each tail, until all have theirs", unit="ms", better="lower", reference=us)
    idle = bench.new_series("processor time of idle tails", unit="ms/s", better="lower", reference=us)
    memory = bench.new_series("memory of a tail", unit="KiB", better="lower", reference=us)
    async with bench.database() as database, ours.open_ours(database) as store:
        for count in bench.choose([1, 100, 1000], [100]):
            point = f"{count:,} tails" if count > 1 else "1 tail"
            before = resident(_HERE)
            async with _tails(store, count) as tails:

                async def one_round(tails: _Tails = tails) -> float:
                    return await tails.event_to_each()

                await bench.compare(delay, point, {us: one_round})
                if count >= 100:
                    memory.record(point, {us: [(resident(_HERE) - before) / count]})
                idle.record(point, {us: [await _idle_cost(bench.choose(1.5, 1.0))]})


class _Tails:
    """Tails of as many sessions, each of one stream that does not end."""

    def __init__(self, store: Store, count: int) -> None:
        self._store = store
        self._names = [f"of-{count}-{number}" for number in range(count)]
        self._missing = 0
        self._all_there = asyncio.Event()
        self._text = wire_text(message(SMALL))

    async def follow(self, name: str) -> None:
        """Be a tail."""
        async for _ in self._store.tail(name, stream_id="1"):
            self._missing -= 1
            if not self._missing:
                self._all_there.set()

    async def event_to_each(self) -> float:
        """Milliseconds until all have it."""
        self._missing = len(self._names)
        self._all_there.clear()
        begin = time.perf_counter()
        await asyncio.gather(*(self._store.append(name, "1", self._text) for name in self._names))
        await asyncio.wait_for(self._all_there.wait(), _PATIENCE)
        return (time.perf_counter() - begin) * 1000

    @property
    def names(self) -> list[str]:
        """Of their sessions."""
        return self._names


@asynccontextmanager
async def _tails(store: Store, count: int) -> AsyncGenerator[_Tails, None]:
    tails = _Tails(store, count)
    following = [asyncio.ensure_future(tails.follow(name)) for name in tails.names]
    yield tails
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


async def _idle_cost(seconds: float) -> float:
    """Milliseconds of processor time in a second in which nothing happens."""
    await asyncio.sleep(1)
    begin = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - begin) * 1000 / seconds
