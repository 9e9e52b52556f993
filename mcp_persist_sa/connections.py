"""The two ways to run work on connections: in threads of our own, or on an engine of asyncio.

`ThreadDatabase` calls work in a thread, one hop for all its statements, which is what makes SQLite fast;
`AsyncDatabase` calls it through SQLAlchemy's bridge to asyncio.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool, StaticPool

from mcp_persist_sa.apart import Run, in_loop, in_thread
from mcp_persist_sa.database import refuse_if
from mcp_persist_sa.direct import CHECKPOINT_CHANGES, CHECKPOINT_REST, changes_of, checkpoint, transact_in_turn
from mcp_persist_sa.faults import Fault, NotConnected, fault_of
from mcp_persist_sa.models import PoolHealth
from mcp_persist_sa.options import MAX_BUSY_SECONDS
from mcp_persist_sa.threads import Threads
from mcp_persist_sa.timing import time_limit
from mcp_persist_sa.transactions import Work, transact

T = TypeVar("T")

_SPARE = 2
"""As many connections as events are written on at a time."""


class ThreadDatabase:
    """A SQLite engine of our own: one thread writes, others read.

    In memory there is but one connection, so one thread does both.
    """

    dialect = "sqlite"

    def __init__(self, engine: sa.Engine, *, timeout: float, readers: int) -> None:
        self.timeout = timeout
        self._engine = engine
        self._closed = False
        self._connections: list[sa.Connection] = []
        self._patience = min(timeout, MAX_BUSY_SECONDS)
        self._held = threading.local()
        self._writer = Threads(1, "mcp-persist-sa-writer")
        in_memory = isinstance(engine.pool, StaticPool)
        self._reader = self._writer if in_memory else Threads(readers, "mcp-persist-sa-reader")
        self._tidier = self._writer if in_memory else Threads(1, "mcp-persist-sa-tidier")
        self._logged = 0

    async def attempt(self, work: Work[T], *, atomic: bool, writes: bool, protected: bool) -> T:
        refuse_if(self._closed)
        if not writes:
            return await self._reader.run(partial(self._read, work))
        try:
            return await self._writer.run(partial(self._write, work))
        finally:
            self._tidy()

    def _write(self, work: Work[T]) -> T:
        def run(connection: sa.Connection) -> T:
            before = changes_of(connection)
            try:
                return transact_in_turn(connection, work, self._patience)
            finally:
                self._logged += changes_of(connection) - before

        return self._with_connection(run)

    def _tidy(self) -> None:
        """Bring what is in the log into the file when it has grown, beside the writer, who need not wait for that."""
        if self._logged > CHECKPOINT_CHANGES and not (self._tidier.busy or self._closed):
            self._logged = 0
            self._tidier.run(partial(self._with_connection, checkpoint)).add_done_callback(self._tidy_rest)

    def _tidy_rest(self, beside: asyncio.Future[None]) -> None:
        """Let the writer bring what was written meanwhile, so that the log begins anew.

        In a log that grows a commit takes half as long again as in one whose file is there already.
        """
        succeeded = not beside.cancelled() and beside.exception() is None
        if succeeded and 0 < self._logged <= CHECKPOINT_REST and not self._closed:
            self._logged = 0
            self._writer.run(partial(self._with_connection, checkpoint))

    def _read(self, work: Work[T]) -> T:
        def run(connection: sa.Connection) -> T:
            try:
                return work(connection)
            finally:
                connection.rollback()

        return self._with_connection(run)

    def _with_connection(self, run: Work[T]) -> T:
        connection: sa.Connection | None = getattr(self._held, "connection", None)
        if connection is None or connection.closed or connection.invalidated:
            try:
                connection = self._engine.connect()
            except Exception as error:
                raise NotConnected from error
            self._held.connection = connection
            self._connections.append(connection)
        return run(connection)

    def apart(self) -> AbstractAsyncContextManager[Run]:
        refuse_if(self._closed)
        return in_thread(self._engine)

    def pool(self) -> PoolHealth | None:
        threads = {self._writer, self._reader}
        return PoolHealth(sum(each.most for each in threads), sum(min(each.busy, each.most) for each in threads))

    async def close(self) -> None:
        self._closed = True

        def stop() -> None:
            self._writer.close()
            self._reader.close()
            self._tidier.close()
            for connection in self._connections:
                connection.close()
            self._engine.dispose()

        await asyncio.to_thread(stop)


class AsyncDatabase:
    """An engine of asyncio; the caller's is left open at the end.

    Whatever becomes of the caller's task, work that was begun runs to its end, so that no connection goes back to the
    pool in the middle of something. Work on SQLite cannot be interrupted: there the busy timeout is the bound.
    """

    def __init__(self, engine: AsyncEngine, *, timeout: float, owned: bool, bounded: bool = True) -> None:
        self.dialect = engine.dialect.name
        self.timeout = timeout
        self._engine = engine
        self._owned = owned
        self._closed = False
        self._running: set[asyncio.Task[Any]] = set()
        self._alone = asyncio.Lock() if self.dialect == "sqlite" else None
        self._patience = timeout if bounded and self._alone is None else None
        self._read_alone = isinstance(engine.pool, StaticPool)
        self._spare: list[AsyncConnection] = []
        self._most_spare = _SPARE if owned and self.dialect != "sqlite" else 0
        self._connecting = 0

    async def attempt(self, work: Work[T], *, atomic: bool, writes: bool, protected: bool) -> T:
        refuse_if(self._closed)
        turn = self._turn(work, atomic=atomic, writes=writes)
        return await (self._to_the_end(turn) if protected or self._alone else turn)

    async def _to_the_end(self, run: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(run)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()

    async def _turn(self, work: Work[T], *, atomic: bool, writes: bool) -> T:
        if self._alone is None or not (writes or self._read_alone):
            return await self._run(work, atomic=atomic, writes=writes)
        async with self._alone:
            return await self._run(work, atomic=atomic, writes=writes)

    async def _run(self, work: Work[T], *, atomic: bool, writes: bool) -> T:
        connection = self._spare.pop() if self._spare and not atomic else await self._connect(atomic=atomic)
        try:
            commit = writes and (atomic or self.dialect == "sqlite")
            run: Work[T] = (lambda c: transact(c, work)) if commit else work
            async with time_limit(self._patience):
                result = await connection.run_sync(run)
        except BaseException as error:
            await _give_up(connection, error)
            if fault_of(error) is Fault.LOST:
                # Those at hand are most likely lost, too; the pool knows since when.
                await self._empty_hand()
            raise
        await self._give_back(connection, atomic=atomic)
        return result

    async def _give_back(self, connection: AsyncConnection, *, atomic: bool) -> None:
        """Keep a connection at hand, as it is, unless somebody waits for the pool, which takes as long as a read."""
        if atomic or self._connecting or len(self._spare) >= self._most_spare or connection.in_transaction():
            await connection.close()
        else:
            self._spare.append(connection)

    async def _connect(self, *, atomic: bool) -> AsyncConnection:
        """A connection; the isolation of a caller's engine, which may be none at all, is not what the store needs."""
        self._connecting += 1
        try:
            await self._empty_hand()
            async with time_limit(self.timeout):
                connection = await self._engine.connect()
        except Exception as error:
            raise NotConnected from error
        finally:
            self._connecting -= 1
        if self.dialect != "sqlite":
            await connection.execution_options(isolation_level="READ COMMITTED" if atomic else "AUTOCOMMIT")
        return connection

    async def _empty_hand(self) -> None:
        while self._spare:
            await self._spare.pop().close()

    def apart(self) -> AbstractAsyncContextManager[Run]:
        refuse_if(self._closed)
        return in_loop(self._connect(atomic=False))

    def pool(self) -> PoolHealth | None:
        pool = self._engine.pool
        return PoolHealth(pool.size(), pool.checkedout() - len(self._spare)) if isinstance(pool, QueuePool) else None

    async def close(self) -> None:
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        await self._empty_hand()
        if self._owned:
            await self._engine.dispose()


async def _give_up(connection: AsyncConnection, error: BaseException) -> None:
    """Return a connection; one of which it is not known what it is doing is thrown away."""
    with suppress(Exception):
        if fault_of(error) is Fault.LOST or isinstance(error, asyncio.CancelledError):
            await connection.invalidate()
        await connection.close()
