"""Does the replay of a thousand events cost more among millions of others? With the page cache warm, and cold."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from benchmarks import contestants, rows
from benchmarks.bench import Bench, Run
from benchmarks.contestants import Contestant, mcp_persist, ours
from benchmarks.databases import Database
from benchmarks.figures import Series
from benchmarks.messages import SMALL, messages
from benchmarks.workloads.replay import timed

EVENTS = 1000
PORTIONS = 100
"""So many pieces of the stream lie scattered, a few events in each, as calls come and go."""
OTHERS_PER_STREAM = 100

_NAMES = (mcp_persist.NAME, ours.NAME)
_COLD_ROUNDS = 3


async def measure(bench: Bench) -> None:
    """Measure at each size, in one table that grows."""
    if bench.backend not in rows.BACKENDS:
        return
    sizes = bench.choose([10_000, 3_000_000], [1_000, 20_000])
    warm = bench.new_series(f"replay of {EVENTS:,} events among others, warm", unit="ms", better="lower")
    cold = bench.new_series(f"replay of {EVENTS:,} events among others, cold", unit="ms", better="lower")
    async with AsyncExitStack() as stack:
        filled = {name: _Filled(name, await stack.enter_async_context(bench.database()), sizes) for name in _NAMES}
        for size in sizes:
            point = f"{size:,} others"
            await asyncio.gather(*(each.grow_to(size) for each in filled.values()))
            async with _opened(filled) as opened:
                await bench.compare(warm, point, _runs(filled, opened, size))
            if not bench.quick:
                cold.record(point, await _cold(bench, filled, size))
    for series in (warm, cold):
        _summarize(bench, series)


class _Filled:
    """A table in which, for each size to come, a stream lies scattered among all the other events."""

    def __init__(self, name: str, database: Database, sizes: list[int]) -> None:
        self.name = name
        self.database = database
        self.anchors: dict[int, str] = {}
        self._sizes = sizes
        self._size = 0

    async def grow_to(self, size: int) -> None:
        """Add what is missing to that size."""
        texts = messages(SMALL)
        async with contestants.ALL[self.name](self.database) as contestant:
            store = next(iter(contestant.ways_to_store.values()))
            if not self._size:
                self.anchors = {each: await store(f"probe-{each}", texts[0]) for each in self._sizes}
                await contestant.fill("warm-up", texts[:2])
            begin, probes = self._size, self._sizes[self._sizes.index(size) :]
            for portion in range(PORTIONS):
                first, last = (begin + (size - begin) * number // PORTIONS for number in (portion, portion + 1))
                streams = self._sizes[-1] // OTHERS_PER_STREAM
                await rows.fill(self.name, self.database, rows.Rows(first, last, streams))
                for probe in probes:
                    share = EVENTS // PORTIONS // (self._sizes.index(probe) + 1)
                    await asyncio.gather(*(store(f"probe-{probe}", texts[n % len(texts)]) for n in range(share)))
            # The last of them ends the stream.
            await contestant.fill(f"probe-{size}", texts[:2])
        await rows.settle(self.database)
        self._size = size


@asynccontextmanager
async def _opened(filled: dict[str, _Filled]) -> AsyncGenerator[dict[str, Contestant], None]:
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(contestants.ALL[name](each.database)) for name, each in filled.items()
        }


def _runs(filled: dict[str, _Filled], opened: dict[str, Contestant], size: int) -> dict[str, Run]:
    return {
        name: partial(_all_of_it, contestant, f"probe-{size}", filled[name].anchors[size])
        for name, contestant in opened.items()
    }


async def _all_of_it(contestant: Contestant, stream: str, after: str) -> float:
    replay = next(iter(contestant.ways_to_replay.values()))
    return (await timed(replay, stream, after)).all


async def _cold(bench: Bench, filled: dict[str, _Filled], size: int) -> dict[str, list[float]]:
    """With nothing in memory but what finding another, short stream has brought there."""
    figures: dict[str, list[float]] = {name: [] for name in filled}
    for _ in range(_COLD_ROUNDS):
        for name, each in filled.items():
            await _forget(bench, each.database)
            async with contestants.ALL[name](each.database) as contestant:
                for text in messages(SMALL)[:2]:
                    anchor = await contestant.fill("warm-up-again", [text, text])
                    await _all_of_it(contestant, "warm-up-again", anchor)
                figures[name].append(await _all_of_it(contestant, f"probe-{size}", each.anchors[size]))
    return figures


async def _forget(bench: Bench, database: Database) -> None:
    """Empty the page caches of the database, where there is a server, and of the system."""
    server = bench.databases.postgres
    if server is None:
        await asyncio.to_thread(_evict, database.path.parent)
        return
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(_evict, server.folder / "data")
    await asyncio.to_thread(server.start)


def _evict(folder: Path) -> None:
    advise: Callable[[int, int, int, int], None] = os.posix_fadvise
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            advise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _summarize(bench: Bench, series: Series) -> None:
    """How many times longer it takes at the last size than at the first."""
    points = [*series.points]
    if not points:
        bench.series.remove(series)
        return
    growth = bench.new_series(f"growth of the {series.title}", unit="times", better="lower")
    first, last = series.points[points[0]], series.points[points[-1]]
    growth.record(
        f"{points[0]} to {points[-1]}",
        {name: [statistics.median(last[name]) / statistics.median(first[name])] for name in first},
    )
