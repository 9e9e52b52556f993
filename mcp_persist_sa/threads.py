"""Threads that work for an event loop: one hop there, one hop back, and nothing more.

An executor of the standard library does the same by way of two futures and a lock, which takes half as long again; and
on SQLite these hops are much of what an event costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """Some threads, each begun when the others are busy. They end with the process, or by `close`.

    Attributes:
        most: How many there may be.
        busy: How much was handed over and is not done.
    """

    def __init__(self, most: int, name: str) -> None:
        """Make them.

        Args:
            most: How many.
            name: By which debuggers show them.
        """
        self.most = most
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self.busy = 0

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function in a thread; to cancel the future does not stop it.

        Args:
            work: The function.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.busy += 1
        self._jobs.put((work, future))
        if self.busy > len(self._threads) < self.most:
            thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:
                error = raised
            # The loop may have been closed meanwhile; then nobody waits.
            with suppress(RuntimeError):
                future.get_loop().call_soon_threadsafe(self._done, future, result, error)
            # Nothing may be kept alive until the next job comes.
            del job, work, future, result, error

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self.busy -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def close(self) -> None:
        """Wait until everything that was handed over is done, and end."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
