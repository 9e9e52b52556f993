"""Events on their way to the database, and who waits to hear what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mcp_persist_sa.batches import Append, Place
from mcp_persist_sa.errors import Overloaded
from mcp_persist_sa.timing import time_limit


class Pending:
    """Events that wait to be written.

    Attributes:
        group: The events.
        outcome: Where they are, once they are durable, or why they never will be.
        lost: Whether a reply about them was lost, so that they may be stored although nobody was told.
        given_up: Whether nobody wants them any more. Those that have their numbers already are written all the same,
            for the sake of those behind them.
    """

    __slots__ = ("_loop", "_waiting", "given_up", "group", "lost", "outcome")

    def __init__(self, group: Append, loop: asyncio.AbstractEventLoop) -> None:
        self.group = group
        self._loop = loop
        self.outcome: Place | Exception | None = None
        self.lost = False
        self.given_up = False
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    @property
    def wanted(self) -> bool:
        """Whether they still have to be written."""
        return self.outcome is None and (self.group.claim is not None or not self.given_up)

    def settle(self, outcome: Place | Exception) -> None:
        """Say what became of them."""
        if self.outcome is None:
            self.outcome = outcome
            for waiting in self._waiting:
                wake(waiting)

    def settled(self) -> asyncio.Future[None]:
        """A future that is done once there is an outcome; to cancel it changes nothing."""
        waiting: asyncio.Future[None] = self._loop.create_future()
        if self.outcome is None:
            self._waiting += (waiting,)
        else:
            waiting.set_result(None)
        return waiting

    def place(self) -> Place:
        """Where they are, or else the error."""
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Room:
    """How much may wait to be written, whoever writes it.

    Attributes:
        events: How many events wait.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        """Make room.

        Args:
            max_events: How many events may wait.
            max_bytes: How many bytes of messages may wait.
        """
        self.events = 0
        self._bytes = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._change = asyncio.Event()

    def fits(self, count: int, size: int) -> bool:
        """Whether there is room for so many events and bytes; anything fits where nothing waits."""
        if not self.events:
            return True
        return self.events + count <= self._max_events and self._bytes + size <= self._max_bytes

    def enter(self, pending: Pending) -> None:
        """Take room.

        Raises:
            Overloaded: There is none.
        """
        count = len(pending.group.events)
        if not self.fits(count, pending.group.size):
            raise Overloaded(f"{self.events} events wait to be written. Is the database down or too slow?")
        self.events += count
        self._bytes += pending.group.size

    def leave(self, batch: Iterable[Pending]) -> None:
        """Give it back."""
        for pending in batch:
            self.events -= len(pending.group.events)
            self._bytes -= pending.group.size
        self._change.set()

    def look_again(self) -> None:
        """Let those look who wait for room."""
        self._change.set()

    async def change(self, deadline: float) -> None:
        """Wait until there may be more room, or until a moment of the event loop.

        Raises:
            Overloaded: That moment has come.
        """
        self._change.clear()
        try:
            async with time_limit(deadline - asyncio.get_running_loop().time()):
                await self._change.wait()
        except TimeoutError:
            raise Overloaded("Too many events wait to be written. Is the database down or too slow?") from None


def wake(waiting: asyncio.Future[None]) -> None:
    """End a wait, unless it has ended."""
    if not waiting.done():
        waiting.set_result(None)
