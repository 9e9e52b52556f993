"""Reading events, following them, and removing them: the part of the store that is about what was written."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from mcp_persist_sa.checks import check_whole
from mcp_persist_sa.errors import InvalidInput, StreamNotFound
from mcp_persist_sa.identity import (
    EventId,
    check_session_id,
    escape_stream_id,
    nonce_of_number,
    number_of,
    session_key,
    unknown_event,
)
from mcp_persist_sa.models import Event, Gap, NewEvent, Page, Purged, StreamInfo
from mcp_persist_sa.parts import Part
from mcp_persist_sa.streams import Tail, end_of


class Events(Part):
    """The events of a store."""

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether the store is open."""

    @abstractmethod
    async def append_many(self, session_id: str, stream_id: str, events: Sequence[NewEvent]) -> list[str]:
        """Store events together and in order, and give their ids once they are durable."""

    def _key(self, session_id: str) -> str:
        return session_key(self._options.namespace, check_session_id(session_id))

    async def _event(self, session_id: str, event_id: str) -> EventId:
        """The place that an event id names, which may be a number from a store that the session was imported from.

        Raises:
            UnknownEvent: It is none of the session's.
        """
        number = number_of(event_id)
        if number is None:
            return EventId.parse(event_id)
        found = await self._now_open.backend.find_foreign(self._key(session_id), nonce_of_number(number))
        if found is None:
            raise unknown_event()
        return found

    # Reading events

    def _tail(self, session_id: str) -> Tail:
        opened = self._now_open
        return Tail(opened.backend, opened.notifier, self._key(session_id), self._options)

    async def read(self, session_id: str, *, after: str | None = None, stream_id: str | None = None) -> Page:
        """A page of a stream: what follows an event, or its beginning as far as it is kept.

        Args:
            session_id: The session.
            after: An event id of the session.
            stream_id: Instead of it, the stream: the open one of that name, or else the newest.

        Raises:
            UnknownEvent: The session has no event with this id.
            HistoryLost: Events after it are gone.
            StreamNotFound: The session has no such stream.
            SessionNotFound: The session has expired.
        """
        return (await self._tail(session_id).read(await self._place(session_id, after, stream_id))).page()

    async def _place(self, session_id: str, after: str | None, stream_id: str | None) -> EventId:
        if (after is None) == (stream_id is None):
            raise InvalidInput("Give either an event id (`after`) or a stream (`stream_id`).")
        if after is not None:
            return await self._event(session_id, after)
        place = await self._tail(session_id).beginning(escape_stream_id(stream_id or ""))
        if place is None:
            raise StreamNotFound("The session has no such stream.")
        return place

    async def read_before(self, session_id: str, event_id: str, *, limit: int = 100) -> Page:
        """The newest events before one, in their order. Takes and raises what `read` does."""
        return await self._read_back(session_id, await self._event(session_id, event_id), limit)

    async def recent(self, session_id: str, stream_id: str, *, limit: int = 100) -> Page:
        """The newest events of a stream, in their order. Takes and raises what `read` does."""
        place = await self._place(session_id, None, stream_id)
        return await self._read_back(session_id, end_of(place.stream_key), limit)

    async def _read_back(self, session_id: str, before: EventId, limit: int) -> Page:
        check_whole("limit", limit, 1)
        most = self._options.page_bytes
        key = self._key(session_id)
        return (await self._now_open.backend.read_before(key, before, limit=limit, max_bytes=most)).page()

    async def tail(
        self, session_id: str, stream_id: str | None = None, *, after: str | None = None, from_now: bool = False
    ) -> AsyncGenerator[Event | Gap, None]:
        """Follow a stream: what is stored, then what comes, until its final event or the end of its session.

        Any number may follow a stream, each at its own pace: between events neither a connection nor a cursor is held.

        Args:
            session_id: The session.
            stream_id: The stream, which may be opened later; needed where there is no event id.
            after: An event id of the session, after which to begin; None for the beginning of the stream.
            from_now: With a stream alone: leave out what it holds already.

        Yields:
            Events in order, and a `Gap` where numbers are missing for good.

        Raises:
            UnknownEvent: The session, or the stream of that name, has no event with this id (any more).
            HistoryLost: Events after it, or after the last one yielded, are gone.
            SessionNotFound: The session has expired.
        """
        tail = self._tail(session_id)
        if after is None and stream_id is None:
            raise InvalidInput("Give a stream (`stream_id`), or an event id (`after`), or both.")
        if after is not None and from_now:
            raise InvalidInput("`from_now` goes with a stream (`stream_id`), not with an event id.")
        name = None if stream_id is None else escape_stream_id(stream_id)
        place, skip = (await self._event(session_id, after), "") if after is not None else (None, "")
        if from_now:
            place, skip = await tail.end(name or "")
        async with aclosing(tail.pages(name, place, skip=skip)) as pages:
            async for items in pages:
                for item in items:
                    yield item

    subscribe = tail
    """What following a stream is called where many consumers do it."""

    async def changes(self, session_id: str) -> AsyncGenerator[None, None]:
        """Yield at once, and then whenever a session, its streams or their events may have changed.

        Nothing is read: whoever is told has to look. Many changes may be one, and there need not have been any.

        Raises:
            StoreClosed: The store was closed, before or meanwhile.
        """
        with self._now_open.notifier.listen(self._key(session_id)) as waiter:
            while True:
                yield
                await waiter.wait(None)

    async def stream(self, session_id: str, stream_id: str) -> StreamInfo:
        """What is known of a stream: the open one of that name, or else the newest.

        Raises:
            StreamNotFound: The session has no such stream.
        """
        place = await self._place(session_id, None, stream_id)
        found = await self._now_open.backend.stream(self._key(session_id), place.stream_key)
        if found is None:
            raise StreamNotFound("The session has no such stream.")
        return found

    async def streams(self, session_id: str) -> AsyncGenerator[StreamInfo, None]:
        """All streams of a session, in no particular order."""
        backend, after = self._now_open.backend, ""
        while found := await backend.streams(self._key(session_id), after=after, limit=100):
            for info in found:
                yield info
            after = found[-1].stream_key

    # Removing

    async def delete_before(self, session_id: str, event_id: str) -> int:
        """Remove the events of a stream that come before one, and say how many there were.

        Raises:
            UnknownEvent: The session has no event with this id.
            HistoryLost: It, or what follows it, is gone already.
            SessionNotFound: The session has expired.
        """
        place = await self._event(session_id, event_id)
        await self._tail(session_id).read(place)
        return await self._now_open.backend.delete_before(self._key(session_id), place.stream_key, place.sequence)

    async def delete_events(self, session_id: str) -> Purged:
        """Remove all streams and events of a session, which stays."""
        return await self._now_open.backend.delete_events(self._key(session_id))
