"""The fan-out to those who wait in this process. A dialect adds the wire to other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator
from contextlib import contextmanager
from datetime import datetime, timezone
from math import inf

from anyio import move_on_after

from mcp_persist_sa.database import refuse_if
from mcp_persist_sa.hints import Hint, Waiter
from mcp_persist_sa.identity import EventId
from mcp_persist_sa.models import NotifierHealth, NotifierMode

_EAGER = 0.05


class FanOutWaiter:
    """Waits for hints of one session, and among them for those that point past what is known already."""

    def __init__(self, fanout: FanOut) -> None:
        self._fanout = fanout
        self._known: EventId | None = None
        self._hinted = 0.0
        self._hint = asyncio.Event()
        self._pause = _EAGER

    def wake(self, hint: Hint | None = None) -> None:
        """End the present wait, or the next one; not for another stream than the one that is followed."""
        if hint is None or not hint.stream_key or self._known is None:
            self._hinted = inf
        elif hint.stream_key == self._known.stream_key:
            self._hinted = max(self._hinted, hint.sequence)
        if self._points_past_the_known:
            self._hint.set()

    @property
    def _points_past_the_known(self) -> bool:
        return self._hinted > (0 if self._known is None else self._known.sequence)

    async def wait(self, after: EventId | None) -> None:
        # A stream that has just moved will move again.
        self._pause = 2 * self._pause if after == self._known else _EAGER
        self._known = after
        if not self._points_past_the_known:
            self._hint.clear()
        # Not `asyncio.wait_for`: before Python 3.12 it loses a cancellation that comes together with the hint.
        with move_on_after(self._fanout.pause(self._pause)):
            await self._hint.wait()
        refuse_if(self._fanout.closed)
        self._hint.clear()
        self._hinted = 0.0


class FanOut:
    """Hints within one process and one event loop; whole as it is where no wire is needed, or none can be had."""

    def __init__(self, poll_interval: float, mode: NotifierMode) -> None:
        """Make one.

        Args:
            poll_interval: Seconds after which whoever waits looks again, also if there was no hint.
            mode: Without a wire, `local` where nobody else can write, or else `polling`.
        """
        self._poll_interval = poll_interval
        self._waiters: dict[str, set[FanOutWaiter]] = {}
        self._count = 0
        self._reconnects = 0
        self._lag: float | None = None
        self._mode: NotifierMode = mode
        self._since = datetime.now(timezone.utc)
        self.closed = False

    def notify(self, hints: Collection[Hint]) -> None:
        self._wake(hints)

    def _wake(self, hints: Collection[Hint]) -> None:
        if not self._waiters:
            return
        for hint in hints:
            for waiter in self._waiters.get(hint.session_key, ()):
                waiter.wake(hint)

    def _wake_all(self) -> None:
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.wake()

    def _become(self, mode: NotifierMode) -> None:
        """Whoever waits looks once, for something may have been missed, and waits as the mode has it from then on."""
        if mode != self._mode:
            self._mode = mode
            self._since = datetime.now(timezone.utc)
            self._wake_all()

    def pause(self, eager: float) -> float:
        """Seconds to wait for a hint: fewer where other processes are not heard."""
        heard = self._mode in ("local", "listening")
        return self._poll_interval if heard else min(eager, self._poll_interval)

    @contextmanager
    def listen(self, session_key: str) -> Generator[Waiter, None, None]:
        waiter = FanOutWaiter(self)
        self._waiters.setdefault(session_key, set()).add(waiter)
        self._count += 1
        try:
            yield waiter
        finally:
            self._count -= 1
            waiters = self._waiters[session_key]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[session_key]

    def health(self) -> NotifierHealth:
        return NotifierHealth(self._mode, self._since, self._count, self._reconnects, self._lag)

    async def close(self) -> None:
        self.closed = True
        self._wake_all()
