"""How long a client that comes back waits for what it has missed: for the first event, and for all."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import cycle, islice
from typing import Any, NamedTuple, TypeVar

from benchmarks.bench import Bench
from benchmarks.contestants import Contestant
from benchmarks.contestants.shape import Replay
from benchmarks.messages import LARGE, SMALL, messages

T = TypeVar("T")

_EVENTS_OF_A_ROUND = {SMALL: 30_000, LARGE: 10_000}
"""A history is read more than once in a round: a single time would show how cold the processor's caches were."""

_MOST_TIMES = 30
_MOST_OF_SLOW = 100
_MOST_TRACED = 10_000

Figure = Callable[[Replay, str, str], Awaitable[T]]


async def measure(bench: Bench) -> None:
    """Measure histories of all lengths."""
    small = bench.choose([100, 1_000, 10_000, 100_000], [1_000])
    await _histories(bench, SMALL, small)
    await _histories(bench, LARGE, bench.choose([10_000], [1_000]))


async def _histories(bench: Bench, size: int, lengths: list[int]) -> None:
    all_of_it = bench.new_series(f"replay, {size} bytes each", unit="ms", better="lower")
    processor = bench.new_series(f"processor time of a replay, {size} bytes each", unit="ms", better="lower")
    first = bench.new_series(f"first event of a replay, {size} bytes each", unit="ms", better="lower")
    memory = bench.new_series(f"peak memory of a replay, {size} bytes each", unit="KiB", better="lower")
    async with bench.contestants() as contestants:
        for length in lengths:
            point = f"{length:,} events"
            anchors = await _fill(contestants, size, length, most_of_slow=bench.choose(_MOST_OF_SLOW, 0))
            times = bench.choose(min(_MOST_TIMES, max(1, _EVENTS_OF_A_ROUND[size] // length)), 1)
            rounds = await bench.take_turns(_runs(contestants, anchors, length, partial(_often, times)))
            all_of_it.record(point, {name: [each.all for each in figures] for name, figures in rounds.items()})
            processor.record(point, {name: [each.processor for each in figures] for name, figures in rounds.items()})
            first.record(point, {name: [each.first for each in figures] for name, figures in rounds.items()})
            if length > _MOST_TRACED:
                continue
            for name, run in _runs(contestants, anchors, length, lambda _: traced).items():
                memory.record(point, {name: [await run()]})


async def _fill(contestants: list[Contestant], size: int, length: int, *, most_of_slow: int) -> dict[str, str]:
    """Make a stream of one event, after which to read, and those that are read; gives the ids of the former."""
    texts = [*islice(cycle(messages(size)), length + 1)]
    return {
        each.name: await each.fill(f"of-{length}", texts)
        for each in contestants
        if not (each.slow and length > most_of_slow)
    }


def _runs(
    contestants: list[Contestant], anchors: dict[str, str], length: int, figure_of: Callable[[Contestant], Figure[T]]
) -> dict[str, Callable[[], Awaitable[T]]]:
    return {
        name: partial(figure_of(each), replay, f"of-{length}", anchors[each.name])
        for each in contestants
        if each.name in anchors
        for name, replay in each.ways_to_replay.items()
    }


def _often(times: int, contestant: Contestant) -> Figure[Times]:
    return partial(timed, times=1 if contestant.slow else times)


class Times(NamedTuple):
    """Milliseconds until the first event, until all were there, and of processor time."""

    first: float
    all: float
    processor: float


async def timed(replay: Replay, stream: str, after: str, *, times: int = 1) -> Times:
    """A replay, on the average of so many, one after the other."""
    first = 0.0
    begin, used = time.perf_counter(), time.process_time()
    for _ in range(times):
        first += await _first(replay, stream, after)
    end, used = time.perf_counter(), time.process_time() - used
    return Times(first * 1000 / times, (end - begin) * 1000 / times, used * 1000 / times)


async def _first(replay: Replay, stream: str, after: str) -> float:
    """Replay, and give the seconds until the first event."""
    arrived: list[float] = []

    def receive(event: Any) -> None:
        if not arrived:
            arrived.append(time.perf_counter())

    begin = time.perf_counter()
    await replay(stream, after, receive)
    return arrived[0] - begin


async def traced(replay: Replay, stream: str, after: str) -> float:
    """The most memory that Python held more than before, in a run whose time does not count."""

    def receive(event: Any) -> None:
        """Let it go again."""

    tracemalloc.start()
    try:
        await replay(stream, after, receive)
        return tracemalloc.get_traced_memory()[1] / 1024
    finally:
        tracemalloc.stop()
