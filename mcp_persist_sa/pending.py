"""Events on their way to the database, and who waits to hear what became of them."""

from __future__ import annotations

import asyncio

from mcp_persist_sa.batches import Append, Place


class Pending:
    """Events that wait to be written.

    Attributes:
        group: The events.
        size: Bytes of their messages.
        outcome: Where they are, once they are durable, or why they never will be.
        lost: Whether a reply about them was lost, so that they may be stored although nobody was told.
        given_up: Whether nobody wants them any more. Those that have their numbers already are written all the same,
            for the sake of those behind them.
    """

    __slots__ = ("_waiting", "given_up", "group", "lost", "outcome", "size")

    def __init__(self, group: Append) -> None:
        self.group = group
        self.size = sum(group.sizes)
        self.outcome: Place | Exception | None = None
        self.lost = False
        self.given_up = False
        self._waiting: list[asyncio.Future[None]] = []

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
        waiting = asyncio.get_running_loop().create_future()
        if self.outcome is None:
            self._waiting.append(waiting)
        else:
            waiting.set_result(None)
        return waiting

    def place(self) -> Place:
        """Where they are, or else the error."""
        assert self.outcome is not None
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def wake(waiting: asyncio.Future[None]) -> None:
    """End a wait, unless it has ended."""
    if not waiting.done():
        waiting.set_result(None)
