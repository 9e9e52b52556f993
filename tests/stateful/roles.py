"""Who takes part: writers of claimed streams, readers that go on from where they were, and followers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_persist_sa import Event, Gap, PersistError, StreamWriter
from tests.stateful.history import Stream, canonical
from tests.stateful.model import Holding


class Seen(NamedTuple):
    """An event id, and to whom it was given.

    What goes into a bundle must not depend on who came first in a race, because Hypothesis takes it for granted that
    the same choices lead to the same choices. So there are as many of these as there were events, stored or not.
    """

    where: int
    session_id: str
    event_id: str = f"{'-' * 16}.1.{'-' * 8}"


@dataclass(eq=False)
class Writer:
    """The owner of a stream, or whoever would like to be.

    Attributes:
        claim: Of the store.
        where: At which store.
        session_id: In which session.
        stream_id: Of which stream.
        stream: What it has written; None before.
        refused: Whether the stream turned out to be another's.
        given: The highest number in an id that it was given.
        skipped: How many messages since were refused, each of which may have taken a number.
        finished: Whether it has written its final event.
    """

    claim: StreamWriter
    where: int
    session_id: str
    stream_id: str
    stream: Stream | None = None
    refused: bool = False
    given: int = 0
    skipped: int = 0
    finished: bool = False


@dataclass(eq=False)
class Reader:
    """A client that reads page by page.

    Attributes:
        where: At which store.
        session_id: In which session.
        stream_id: Which stream.
        stream: The same, once it has read of it.
        last: The event id from which it goes on.
    """

    where: int
    session_id: str
    stream_id: str
    stream: Stream | None = None
    last: str | None = None


@dataclass(eq=False)
class Follower:
    """A tail that runs on while others write.

    Attributes:
        holding: The session.
        stream_id: The stream that it waits for, while there is none.
        stream: The stream.
        position: The number up to which everything was expected already.
        items: What it got.
        taken: How many of these were compared already.
        error: Why it ended, if not in peace.
    """

    holding: Holding
    stream_id: str | None
    stream: Stream | None
    position: int
    items: list[Event | Gap] = field(default_factory=list[Event | Gap])
    taken: int = 0
    error: PersistError | None = None

    def __post_init__(self) -> None:
        self.stream_id = None if self.stream_id is None else canonical(self.stream_id)
        self.look()

    def look(self) -> None:
        """Note the session: also one that was recorded later may be removed meanwhile."""
        self._record = self.holding.record

    @property
    def is_forgotten(self) -> bool:
        """Whether the session was removed meanwhile: that it was closed before, a tail may have seen or not."""
        before, now = self._record, self.holding.record
        return before is not None and (now is None or now.created_at != before.created_at)

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    async def start(self, tail: AsyncGenerator[Event | Gap, None]) -> None:
        self._more = asyncio.Event()
        self.task = asyncio.ensure_future(self._collect(tail))

    async def _collect(self, tail: AsyncGenerator[Event | Gap, None]) -> None:
        try:
            async with aclosing(tail):
                async for item in tail:
                    self.items.append(item)
                    self._more.set()
        except PersistError as error:
            self.error = error
        finally:
            self._more.set()

    async def reach(self, count: int) -> None:
        """Wait until so many items have come, or it has ended."""
        while len(self.items) < count and not self.task.done():
            self._more.clear()
            await self._more.wait()

    async def end(self) -> None:
        """Wait until it has ended by itself."""
        await asyncio.wait({self.task})

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
