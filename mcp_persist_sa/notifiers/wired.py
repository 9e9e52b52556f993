"""A fan-out with a wire to other processes: one connection beside those of the calls, for as long as it lasts."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Generator
from contextlib import contextmanager
from math import inf

from anyio import create_task_group, move_on_after

from mcp_persist_sa.faults import Backoff, describe
from mcp_persist_sa.hints import Hint, Waiter
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.notifiers.fanout import FanOut
from mcp_persist_sa.notifiers.unsent import Unsent

logger = logging.getLogger(__name__)

_FAREWELL = 1.0


class WiredFanOut(FanOut, ABC):
    """Tells other processes off the way of whoever writes; a dialect says how, and how they are heard.

    The connection is made when somebody waits or writes for the first time.
    """

    def __init__(self, poll_interval: float) -> None:
        super().__init__(poll_interval, "polling")
        self._sender = new_stream_key()
        self._unsent = Unsent()
        # Whether it is known of this connection if others are heard on it.
        self._judged = False
        self._trouble = False
        self._running: asyncio.Task[None] | None = None

    def notify(self, hints: Collection[Hint]) -> None:
        super().notify(hints)
        self._unsent.add(hints)
        self._run()

    @contextmanager
    def listen(self, session_key: str) -> Generator[Waiter, None, None]:
        with super().listen(session_key) as waiter:
            self._run()
            yield waiter

    def _run(self) -> None:
        if self._running is None and not self.closed:
            self._running = asyncio.create_task(self._keep_connected())

    async def close(self) -> None:
        await super().close()
        if self._running is None:
            return
        with move_on_after(_FAREWELL):
            await self._unsent.sent()
        self._running.cancel()
        await asyncio.wait({self._running})

    async def _keep_connected(self) -> None:
        while True:
            async for _ in Backoff(inf):
                self._judged = False
                try:
                    await self._one_connection()
                except Exception as error:
                    self._note(error)
                if self._mode == "listening":
                    self._become("reconnecting")
                if self._judged:
                    break

    @abstractmethod
    async def _one_connection(self) -> None:
        """Send and hear on a connection for as long as it lasts."""

    async def _until_over(self, over: asyncio.Event, *works: Callable[[], Awaitable[None]]) -> None:
        """Do these at once until one of them ends or fails, or something else says that it is over."""
        async with create_task_group() as tasks:
            for work in works:
                tasks.start_soon(self._one_work, work, over)
            await over.wait()
            tasks.cancel_scope.cancel()

    async def _one_work(self, work: Callable[[], Awaitable[None]], over: asyncio.Event) -> None:
        try:
            await work()
        except Exception as error:
            self._note(error)
        over.set()

    def _note(self, error: Exception) -> None:
        level = logging.INFO if self._trouble else logging.WARNING
        self._trouble = True
        logger.log(level, "Other processes are not heard for the moment: %(error)s", {"error": describe(error)})

    def _now_judged(self) -> None:
        self._judged, self._trouble = True, False
