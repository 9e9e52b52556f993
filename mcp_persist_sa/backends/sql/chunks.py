"""How a purge runs: one short transaction at a time, and between them others go on."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TypeVar

import sqlalchemy as sa

from mcp_persist_sa.database import Database, read, write
from mcp_persist_sa.transactions import Work

T = TypeVar("T")

_BEGIN_WITH, _LEAST, _MOST = 100, 10, 1000
_TARGETS = {"sqlite": 0.0006, "postgresql": 0.05}
"""Seconds, without the commit, which on SQLite takes several times as long: it writes all pages that were touched.

On Postgres nobody waits for a part, and most of the time goes to and fro.
"""

_RENEWAL = 1.0


class Chunks:
    """Runs the parts of a purge.

    On SQLite a writer waits for as long as a part runs, so its size follows the time for which the part before ran. The
    rest after it follows the time that it took in all: the busier the database, the longer others are left alone.

    Attributes:
        size: How many rows are to be removed in one transaction.
    """

    def __init__(self, database: Database, *, rest: float = 0.0, first: Work[None] | None = None) -> None:
        """Make it.

        Args:
            database: Where.
            rest: For how many times as long as a part took others then go on undisturbed.
            first: With what each transaction begins, and which is repeated at least once in a second; what it raises
                ends the purge.
        """
        self.size = _BEGIN_WITH
        self._database = database
        self._rest = rest
        self._first = first
        self._first_at = monotonic()

    async def read(self, work: Work[T]) -> T:
        """Run work that changes nothing."""
        if self._first is not None and monotonic() - self._first_at > _RENEWAL:
            await self.write(lambda _: None)
        return await read(self._database, work)

    async def write(self, work: Work[T], *, atomic: bool = True) -> T:
        """Run work in a transaction of its own, and let others go on for a while."""
        begin = self._first_at = monotonic()
        result, seconds = await write(
            self._database, lambda c: self._timed(work, c), atomic=atomic or self._first is not None
        )
        self._adapt(seconds)
        await asyncio.sleep(self._rest * (monotonic() - begin))
        return result

    def _timed(self, work: Work[T], connection: sa.Connection) -> tuple[T, float]:
        begin = monotonic()
        if self._first is not None:
            self._first(connection)
        return work(connection), monotonic() - begin

    def _adapt(self, seconds: float) -> None:
        target = _TARGETS[self._database.dialect]
        if seconds > target:
            self.size = max(_LEAST, int(self.size * max(0.5, target / seconds)))
        elif seconds < target / 2:
            self.size = min(_MOST, self.size * 5 // 4)
