"""The answer to a GET: a tail of the store, whatever node runs what is followed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream
from sse_starlette import EventSourceResponse
from starlette.responses import Response

from mcp_persist_sa.errors import HistoryLost, PersistError, UnknownEvent
from mcp_persist_sa.integrations.asgi import error_response
from mcp_persist_sa.integrations.sdk import GET_STREAM
from mcp_persist_sa.models import Event, Gap
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

Frame = dict[str, Any]
Items = AsyncGenerator[Event | Gap, None]

_PRIMED_SINCE = "2025-11-25"
"""Older clients take the empty data of a priming event for a broken message."""


class Follower:
    """What a GET asks for."""

    def __init__(
        self, store: Store, session_id: str, last_event_id: str | None, protocol_version: str | None, retry: int | None
    ) -> None:
        """Make it.

        Args:
            store: Which holds the session.
            session_id: Of the session.
            last_event_id: From which to resume, or None.
            protocol_version: The header of the request.
            retry: Milliseconds after which a client should come back.
        """
        self._store = store
        self._session_id = session_id
        self._last = last_event_id
        self._beginning: str | None = None
        self._primes = protocol_version is not None and protocol_version >= _PRIMED_SINCE
        self._retry = retry

    @property
    def standalone(self) -> bool:
        """Whether it follows what belongs to no request; known once it was not refused."""
        return self._beginning is not None

    async def refusal(self, *, listened: bool) -> Response | None:
        """Find out whether it can be followed; None if so, and then everything after it is sure to come.

        Args:
            listened: Whether the client listens here already to what belongs to no request.

        Raises:
            SessionNotFound: The session is over.
            StoreUnavailable: The store cannot tell.
        """
        try:
            standalone = self._last is None or await self._stream_of(self._last) == GET_STREAM
        except UnknownEvent as error:
            return error_response(400, f"Bad Request: {error}")
        except HistoryLost as error:
            return error_response(410, f"Gone: {error}")
        if standalone:
            return await self._begin(listened)
        return None

    async def _stream_of(self, event_id: str) -> str:
        return (await self._store.read(self._session_id, after=event_id)).stream_id

    async def _begin(self, listened: bool) -> Response | None:
        """Take the place of the one listener. Whoever resumes was the last one: it came back from elsewhere."""
        anew = self._last is not None
        if (listened and not anew) or not await self._store.listen(self._session_id, anew=anew):
            return error_response(409, "Conflict: Only one SSE stream is allowed per session")
        # The beginning is an event of its own: a fresh listener can resume from it, and an earlier one ends at it.
        self._beginning = await self._store.append(self._session_id, GET_STREAM, None)
        return None

    def response(self, session_id: str, until: asyncio.Event) -> Response:
        """The stream.

        Args:
            session_id: The header of the response.
            until: Set when the stream has to end whatever comes.
        """
        send, receive = anyio.create_memory_object_stream[Frame](0)
        headers = {
            "Cache-Control": "no-cache, no-transform",
            "Connection": "keep-alive",
            "Content-Type": "text/event-stream",
            "Mcp-Session-Id": session_id,
        }
        return EventSourceResponse(receive, headers=headers, data_sender_callable=partial(self._run, send, until))

    async def _run(self, send: MemoryObjectSendStream[Frame], until: asyncio.Event) -> None:
        async with send, anyio.create_task_group() as group:
            group.start_soon(_end, until, group.cancel_scope)
            try:
                async with aclosing(self._frames()) as frames:
                    async for frame in frames:
                        await send.send(frame)
            except PersistError as error:
                # The client comes back, and is told why.
                logger.info(
                    "A stream of session %(session_id)s ends: %(error)s",
                    {"session_id": self._session_id, "error": error},
                )
            group.cancel_scope.cancel()

    async def _frames(self) -> AsyncGenerator[Frame, None]:
        begun = self._last is None
        after = self._last or self._beginning
        if begun and self._primes and self._beginning is not None:
            yield self._priming(self._beginning)
        async with aclosing(self._store.tail(self._session_id, after=after)) as items:
            async for item in items:
                if self._is_displaced(item, begun):
                    return
                begun = begun or (isinstance(item, Event) and item.event_id == self._beginning)
                frame = self._frame(item)
                if frame is not None:
                    yield frame

    def _is_displaced(self, item: Event | Gap, begun: bool) -> bool:
        """Whether another GET has taken the place of this one since it began."""
        return self.standalone and begun and isinstance(item, Event) and item.message is None

    def _frame(self, item: Event | Gap) -> Frame | None:
        if isinstance(item, Gap):
            return {"event": "message", "data": _missing(item)}
        if item.message is not None:
            return {"event": "message", "data": item.message, "id": item.event_id}
        return self._priming(item.event_id) if self._primes else None

    def _priming(self, event_id: str) -> Frame:
        frame: Frame = {"id": event_id, "data": ""}
        return frame if self._retry is None else {**frame, "retry": self._retry}


async def _end(until: asyncio.Event, scope: anyio.CancelScope) -> None:
    await until.wait()
    scope.cancel()


def _missing(gap: Gap) -> str:
    """A log message for a client that resumes where messages were not stored; it has no id, for it is no event."""
    count = gap.last - gap.first + 1
    text = f"{count} message{'s' if count > 1 else ''} of this stream could not be stored and cannot be replayed."
    params = {"level": "warning", "logger": "mcp_persist_sa", "data": text}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
