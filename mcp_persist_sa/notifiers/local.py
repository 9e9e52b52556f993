"""Wakes waiters of the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from anyio import move_on_after

from mcp_persist_sa.protocols import Waiter


class LocalWaiter:
    """An event that resets itself."""

    def __init__(self) -> None:
        self._hint = asyncio.Event()

    def wake(self) -> None:
        """End the present wait, or the next one."""
        self._hint.set()

    async def wait(self, timeout: float) -> None:
        # Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that comes together with the hint.
        with move_on_after(timeout):
            await self._hint.wait()
        self._hint.clear()


class LocalNotifier:
    """Hints within one process and one event loop."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[LocalWaiter]] = {}

    def notify(self, session_keys: set[str]) -> None:
        for key in session_keys & self._waiters.keys():
            for waiter in self._waiters[key]:
                waiter.wake()

    @contextmanager
    def listen(self, session_key: str) -> Generator[Waiter, None, None]:
        waiter = LocalWaiter()
        self._waiters.setdefault(session_key, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiters[session_key]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[session_key]
