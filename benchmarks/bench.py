"""What a workload is given: databases, contestants, and turns at being measured."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from benchmarks import contestants
from benchmarks.contestants import Contestant
from benchmarks.databases import FULL, Database, Databases
from benchmarks.figures import PEER, Better, Series
from mcp_persist_sa import upgrade

T = TypeVar("T")

Run = Callable[[], Awaitable[float]]
"""Does the work of one round, and gives its figure."""


class Bench:
    """One workload on one kind of database.

    Attributes:
        backend: `sqlite`, `postgres` or `redis`.
        quick: Whether it is only to be seen that it works.
        series: What has been measured.
    """

    def __init__(self, workload: str, databases: Databases, *, quick: bool) -> None:
        self.databases = databases
        self.backend = databases.backend
        self.quick = quick
        self.series: list[Series] = []
        self._workload = workload

    def choose(self, full: T, quick: T) -> T:
        """One of two sizes."""
        return quick if self.quick else full

    def new_series(
        self, title: str, *, unit: str, better: Better, synchronous: str | None = None, reference: str = PEER
    ) -> Series:
        """Begin a series."""
        where = {"sqlite": f"SQLite {synchronous or ''}".strip(), "postgres": "Postgres", "redis": "Redis"}[
            self.backend
        ]
        series = Series(self._workload, title, where, unit, better, reference)
        self.series.append(series)
        return series

    @asynccontextmanager
    async def database(self, *, migrated: bool = False) -> AsyncGenerator[Database, None]:
        """One more empty database, with the tables of this package if need be."""
        async with self.databases.new() as database:
            if migrated and self.backend != "redis":
                await upgrade(database.dsn)
            yield database

    @asynccontextmanager
    async def contestants(
        self, synchronous: str = FULL, *, without: Collection[str] = ()
    ) -> AsyncGenerator[list[Contestant], None]:
        """All that can be compared here, each on a database of its own."""
        async with AsyncExitStack() as stack:
            opened: list[Contestant] = []
            for name, opening in contestants.ALL.items():
                if name not in without:
                    database = await stack.enter_async_context(self.databases.new(synchronous))
                    opened.append(await stack.enter_async_context(opening(database)))
            yield opened

    async def compare(self, series: Series, point: str, runs: Mapping[str, Run], *, seconds: float = 0.8) -> None:
        """Measure contestants, and keep the figures.

        Args:
            series: Where the figures belong.
            point: Under which name.
            runs: For each contestant, one round.
            seconds: As in `take_turns`.
        """
        series.record(point, await self.take_turns(runs, seconds=seconds))

    async def take_turns(
        self, runs: Mapping[str, Callable[[], Awaitable[T]]], *, seconds: float = 0.8
    ) -> dict[str, list[T]]:
        """Let contestants take turns, round after round, so that whatever else the machine does falls on all of them.

        Args:
            runs: For each contestant, one round; the first of each does not count.
            seconds: After which no further round is begun; three there are in any case (one where it is quick).
        """
        for run in runs.values():
            await run()
        names = list(runs)
        results: dict[str, list[T]] = {name: [] for name in names}
        most, least = self.choose((21, 3), (3, 1))
        deadline = time.perf_counter() + self.choose(seconds, seconds / 8)
        for number in range(most):
            if number >= least and time.perf_counter() > deadline:
                break
            first = number % len(names)
            for name in names[first:] + names[:first]:
                gc.collect()
                results[name].append(await runs[name]())
        return results
