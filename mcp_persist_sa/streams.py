"""Writing to a stream that is one writer's own, and following a stream to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from time import monotonic

from mcp_persist_sa.batches import Append, Claim, Place
from mcp_persist_sa.checks import new_arrival
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.hints import Notifier
from mcp_persist_sa.identity import EventId, escape_stream_id, event_id, new_stream_key, unknown_event
from mcp_persist_sa.models import Event, Gap
from mcp_persist_sa.options import Options
from mcp_persist_sa.pending import Pending
from mcp_persist_sa.protocols import EventBackend
from mcp_persist_sa.stretches import Stretch
from mcp_persist_sa.writer import Writer

_FIRST_PAGE = 127
"""Events: what was missed in most cases, and soon there. One less than what a database is asked for."""

_TURNS = 3
"""Of the event loop, until a statement has been sent: a task of the read, one of its connection, and the driver's."""


def end_of(stream_key: str) -> EventId:
    """The place behind all events of a stream."""
    return EventId(stream_key, 2**62, "")


async def _some_turns() -> None:
    """Let the event loop bring what was begun on its way to the database."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class Receipt:
    """An event that has its id, and is on its way to the database."""

    __slots__ = ("_pending", "event_id")

    def __init__(self, event_id: str, pending: Pending) -> None:
        self.event_id = event_id
        self._pending = pending

    @property
    def stored(self) -> bool:
        """Whether the event is durable."""
        return isinstance(self._pending.outcome, Place)

    async def durable(self) -> str:
        """Wait until the event is durable, and give its id. To stop waiting does not stop the writing.

        Raises:
            StreamClaimed: The stream was open in other hands; none of this writer's events is stored.
            PersistError: The event could not be stored, and never will be.
        """
        await self._pending.settled()
        self._pending.place()
        return self.event_id


class StreamWriter:
    """The only writer of a stream: it numbers the events itself, and need not wait for the database.

    Made by `Store.claim`. The claim is written with the first event. An event that cannot be stored leaves a gap, which
    readers are told of.
    """

    def __init__(
        self,
        writer: Writer,
        session_key: str,
        stream_id: str,
        max_message_bytes: int,
        *,
        node_id: str | None = None,
        will: str | None = None,
    ) -> None:
        self._writer = writer
        self._session_key = session_key
        self._stream_id = stream_id
        self._max_message_bytes = max_message_bytes
        self._claim = Claim(new_stream_key(), node_id, will)
        self._next = 1
        self._begun = False
        self._finished = False

    def append(self, message: str | None, *, final: bool = False, can_wait: bool = False) -> Receipt:
        """Number an event and queue it. Nothing is waited for.

        Args:
            message: The JSON-RPC message as JSON text; None for a priming event.
            final: Whether it ends the stream.
            can_wait: Whether it may wait a few milliseconds for others that share its commit.

        Raises:
            InvalidInput: The message is not text that can be stored, or too large.
            Overloaded: Too many events wait to be written.
            PersistError: The stream has ended.
        """
        if self._finished:
            raise PersistError("The stream has ended; claim it anew.")
        sequence = self._next
        self._next += 1
        event = new_arrival(message, final, self._max_message_bytes)
        claim = self._claim
        place = Place(claim.stream_key, sequence)
        group = Append(self._session_key, self._stream_id, (event,), event.size, claim, place, not self._begun)
        pending = self._writer.submit(group, can_wait=can_wait)
        self._begun, self._finished = True, final
        return Receipt(event_id(claim.stream_key, sequence, event.nonce), pending)


class Tail:
    """Follows a stream: what it holds, then what comes."""

    def __init__(self, backend: EventBackend, notifier: Notifier, session_key: str, options: Options) -> None:
        self._backend = backend
        self._notifier = notifier
        self._session_key = session_key
        self._options = options
        self._abandoned_at: float | None = None

    async def read(self, place: EventId, *, limit: int | None = None) -> Stretch:
        """What follows a place, as far as it is stored: a page, or so many events."""
        limit = self._most(limit)
        return await self._backend.read(self._session_key, place, limit=limit, max_bytes=self._options.page_bytes)

    def _most(self, limit: int | None) -> int:
        most = self._options.page_events
        return most if limit is None else min(limit, most)

    async def beginning(self, stream_id: str) -> EventId | None:
        """The place before the first event of the stream of that name, or None while there is none."""
        located = await self._backend.locate(self._session_key, stream_id)
        return None if located.stream_key is None else EventId(located.stream_key, 0, "")

    async def end(self, stream_id: str) -> tuple[EventId | None, str]:
        """The place after the last event of a stream; if it has ended, the key of a stream that is not meant."""
        place = await self.beginning(stream_id)
        if place is None:
            return None, ""
        last = await self._backend.read_before(self._session_key, end_of(place.stream_key), limit=1, max_bytes=1)
        if last.finished:
            return None, place.stream_key
        return last.last or place, ""

    async def pages(
        self, stream_id: str | None, place: EventId | None, *, skip: str = ""
    ) -> AsyncGenerator[Iterable[Event | Gap], None]:
        """Yield what follows a place, some at a time, until the stream or its session ends.

        Between pages neither a connection nor a cursor is held, however slowly they are taken.

        Args:
            stream_id: Escaped; looked for where there is no place yet. With a place, it may be None for any.
            place: After which to begin.
            skip: The key of a stream of that name that is over and is not meant.

        Raises:
            UnknownEvent: The place is in a stream of another name.
        """
        was_recorded = False
        with self._notifier.listen(self._session_key) as waiter:
            while place is None:
                located = await self._backend.locate(self._session_key, stream_id or "")
                if located.stream_key not in (None, skip):
                    place = EventId(located.stream_key or "", 0, "")
                elif located.session_closed or (was_recorded and not located.session_recorded):
                    return
                else:
                    was_recorded = located.session_recorded
                    await waiter.wait(None)
            limit: int | None = _FIRST_PAGE
            while True:
                found = None
                async with aclosing(self._stretches(place, limit)) as stretches:
                    async for found in stretches:
                        if stream_id is not None and escape_stream_id(found.stream_id) != stream_id:
                            raise unknown_event()
                        yield found.items()
                assert found is not None
                if found.finished or found.closed:
                    return
                place, limit = found.last or place, None
                await self._look_after(place, abandoned=found.abandoned)
                del found
                await waiter.wait(place)

    async def _stretches(self, place: EventId, limit: int | None) -> AsyncGenerator[Stretch, None]:
        """What follows a place, as far as it is stored; what comes next is read while one is made and used."""
        found, is_first = await self.read(place, limit=limit), True
        while found.more:
            place = found.last or place
            # Of a page that ended at its bytes, a database may have looked at more than it gave.
            limit = None if found.count >= self._most(limit) else 5 * found.count // 4 + 1
            following = asyncio.ensure_future(self.read(place, limit=limit))
            try:
                if not is_first:
                    # Whoever takes events without waiting for anything would not let it begin.
                    await _some_turns()
                yield found
                found, is_first = await following, False
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        yield found

    async def _look_after(self, place: EventId, *, abandoned: bool) -> None:
        """End a stream whose node is dead: not at first sight, for the database may just have been away for all."""
        if not abandoned:
            self._abandoned_at = None
        elif self._abandoned_at is None:
            self._abandoned_at = monotonic()
        elif monotonic() - self._abandoned_at >= self._options.node_lease / 5:
            await self._backend.end_abandoned(self._session_key, place.stream_key)
