"""The one door to the backend for events: what arrives while a commit runs forms the next transaction.

Where the database is another process, there are two writers: one prepares a batch while that of the other is stored.

An event that comes alone is written at once, but for one that can wait for company. Nothing is acknowledged before it
is committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from math import inf

from mcp_persist_sa.batches import Append, Gate, Place
from mcp_persist_sa.errors import AccessDenied, OutcomeUnknown, StoreClosed, StoreUnavailable
from mcp_persist_sa.faults import Backoff
from mcp_persist_sa.hints import Hint
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.pending import Pending, Room, wake
from mcp_persist_sa.protocols import EventBackend

logger = logging.getLogger(__name__)

_BATCH_EVENTS = 2000
_BATCH_BYTES = 8 * 1024 * 1024
_COMPANY = 0.003
"""Seconds for which an event that can wait is left to wait for others that share its commit."""


class Writer:
    """Writes events in the order in which they were submitted, a batch at a time."""

    def __init__(self, backend: EventBackend, stored: Callable[[Collection[Hint]], None], room: Room) -> None:
        """Make a writer.

        Args:
            backend: Where to.
            stored: Called with what has become durable.
            room: How much may wait.
        """
        self._backend = backend
        self._stored = stored
        self._room = room
        self._id = new_stream_key()
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Pending] = deque()
        self._running: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._number = 0
        self._trouble: StoreUnavailable | None = None
        self._unopened: set[str] = set()
        self._closed = False

    def submit(self, group: Append, *, can_wait: bool = False) -> Pending:
        """Queue events; they are written without further ado.

        Args:
            group: The events.
            can_wait: Whether they may wait a moment for others.

        Raises:
            Overloaded: There is no room for them.
            StoreClosed: The store is closed.
        """
        if self._closed:
            raise StoreClosed("The store is closed. Open it before use.")
        pending = Pending(group, self._loop)
        self._room.enter(pending)
        self._queue.append(pending)
        if not can_wait:
            self._start()
        elif self._running is None and self._alarm is None:
            self._alarm = self._loop.call_later(_COMPANY, self._start)
        return pending

    def _start(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._running is None and self._queue:
            self._running = self._loop.create_task(self._drain())

    async def write(self, group: Append, timeout: float) -> Place:
        """Queue events as soon as there is room, and wait until they are durable.

        Args:
            group: The events.
            timeout: Seconds.

        Raises:
            StoreUnavailable: They were not stored in time; with `OutcomeUnknown`, they may have been.
        """
        deadline = self._loop.time() + timeout
        while not (self._closed or self._room.fits(len(group.events), group.size)):
            await self._room.change(deadline)
        pending = self.submit(group)
        settled = pending.settled()
        alarm = self._loop.call_at(deadline, wake, settled)
        try:
            await settled
        finally:
            alarm.cancel()
            pending.given_up = pending.outcome is None
        if pending.outcome is None:
            raise _unstored(pending, self._trouble, f" within {timeout:g} s")
        return pending.place()

    async def _drain(self) -> None:
        try:
            while self._queue:
                batch = self._take()
                try:
                    await self._commit(batch)
                finally:
                    self._leave(batch)
        finally:
            self._running = None

    def _take(self) -> list[Pending]:
        """The next batch. It stops behind a final event: what follows belongs to the next stream of that name."""
        batch: list[Pending] = []
        count = size = 0
        finals: set[tuple[str, str]] = set()
        while self._queue and count < _BATCH_EVENTS and size < _BATCH_BYTES:
            group = self._queue[0].group
            if finals and (group.session_key, group.stream_id) in finals:
                break
            batch.append(self._queue.popleft())
            count += len(group.events)
            size += group.size
            if group.events[-1].final:
                finals.add((group.session_key, group.stream_id))
        return batch

    def _leave(self, batch: Sequence[Pending]) -> None:
        for pending in batch:
            if pending.outcome is None:
                pending.settle(OutcomeUnknown("The store was closed while the event was written."))
        self._room.leave(batch)

    async def _commit(self, batch: Sequence[Pending]) -> None:
        """Store a batch, however long it takes; a message that cannot be stored fails alone."""
        self._number += 1
        number, warned = self._number, False
        async for _ in Backoff(inf):
            batch = [pending for pending in batch if pending.wanted]
            if not batch:
                return
            try:
                await self._send(batch, number)
                return
            except StoreUnavailable as error:
                _tell_denied(batch, error)
                if not warned and any(pending.wanted for pending in batch):
                    logger.warning(
                        "Events cannot be stored for the moment, %(waiting)d wait: %(error)s",
                        {"waiting": self._room.events, "error": error},
                    )
                    warned = True
            except Exception as error:
                await self._one_by_one(batch, error)
                return

    async def _send(self, batch: Sequence[Pending], number: int) -> None:
        before = [pending.lost for pending in batch]
        for pending in batch:
            # Also whoever gives up before the outcome is known.
            pending.lost = True
        try:
            groups = [pending.group for pending in batch]
            if self._unopened:
                groups = [self._opening(group) for group in groups]
            places = await self._backend.append(groups, Gate(self._id, number))
        except StoreUnavailable as error:
            self._trouble = error
            if not isinstance(error, OutcomeUnknown):
                for pending, lost in zip(batch, before, strict=True):
                    pending.lost = lost
            raise
        self._trouble = None
        if self._unopened:
            self._unopened -= {group.claim.stream_key for group in groups if group.claim is not None}
        for pending, place in zip(batch, places, strict=True):
            pending.settle(place)
        self._tell(_hints(groups, places))

    def _tell(self, hints: Collection[Hint]) -> None:
        """Tell of what is stored, which it stays whether that succeeds or not."""
        try:
            self._stored(hints)
        except Exception:
            logger.exception("Whoever waits for events could not be woken, and looks again by itself.")

    def _opening(self, group: Append) -> Append:
        """The next event opens the stream in the place of one that was to open it and could not be stored."""
        if group.claim is None or group.claim.stream_key not in self._unopened:
            return group
        return group._replace(opening=True)

    async def _one_by_one(self, batch: Sequence[Pending], error: Exception) -> None:
        if len(batch) == 1:
            batch[0].settle(error)
            group = self._opening(batch[0].group)
            if group.claim is not None and group.opening:
                self._unopened.add(group.claim.stream_key)
            return
        for pending in batch:
            await self._commit([pending])

    async def close(self, timeout: float) -> None:
        """Write what is queued, and refuse the rest after `timeout` seconds."""
        self._closed = True
        self._room.look_again()
        self._start()
        if self._running is not None:
            running = self._running
            await asyncio.wait({running}, timeout=timeout)
            running.cancel()
            await asyncio.wait({running})
        for pending in self._queue:
            pending.settle(StoreClosed("The store was closed before the event could be written."))
        self._queue.clear()


class Writers:
    """As many writers as a backend is best served by. What is of one session goes through one of them, in its order."""

    def __init__(
        self, backend: EventBackend, stored: Callable[[Collection[Hint]], None], *, max_events: int, max_bytes: int
    ) -> None:
        """Make them.

        Args:
            backend: Where to.
            stored: Called with what has become durable.
            max_events: How many events may wait.
            max_bytes: How many bytes of messages may wait.
        """
        room = Room(max_events=max_events, max_bytes=max_bytes)
        self._all = [Writer(backend, stored, room) for _ in range(backend.writers)]

    def of(self, session_key: str) -> Writer:
        """The writer of a session."""
        return self._all[hash(session_key) % len(self._all)]

    async def close(self, timeout: float) -> None:
        """Write what is queued, and refuse the rest after `timeout` seconds."""
        await asyncio.gather(*(writer.close(timeout) for writer in self._all))


def _tell_denied(batch: Sequence[Pending], error: StoreUnavailable) -> None:
    """Tell at once what the database does not allow, but for events that have their numbers: those behind need them."""
    if isinstance(error, AccessDenied):
        for pending in batch:
            if pending.group.claim is None:
                pending.settle(_unstored(pending, error))


def _unstored(pending: Pending, trouble: StoreUnavailable | None, when: str = "") -> StoreUnavailable:
    kind = AccessDenied if isinstance(trouble, AccessDenied) else StoreUnavailable
    reason = trouble or "Is the database down or too slow?"
    error = (OutcomeUnknown if pending.lost else kind)(f"The events were not stored{when}. {reason}")
    error.__cause__ = trouble
    return error


def _hints(groups: Sequence[Append], places: Sequence[Place | Exception]) -> list[Hint]:
    """How far each stream goes now."""
    newest: dict[str, Hint] = {}
    for group, place in zip(groups, places, strict=True):
        if isinstance(place, Place):
            key, first = place
            newest[key] = Hint(group.session_key, key, first + len(group.events) - 1)
    return [*newest.values()]
