"""What is new, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing

import anyio
from starlette.types import Receive, Scope, Send

from mcp_persist_sa.dashboard.board import Board
from mcp_persist_sa.dashboard.pages import JSON, refusal
from mcp_persist_sa.dashboard.timeline import Timeline
from mcp_persist_sa.errors import InvalidInput, PersistError, SessionNotFound
from mcp_persist_sa.store import Store

_PAUSE = 0.25
_SHARE = 10
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}


class Feed:
    """A response that does not end: how the store is, and one session if it is asked for."""

    def __init__(self, board: Board, ended: asyncio.Event) -> None:
        """Make one.

        Args:
            board: What is told of the store.
            ended: Ends it.
        """
        self._board = board
        self._ended = ended
        self._session: tuple[Store, str, Timeline] | None = None

    def also(self, store: Store, session_id: str, timeline: Timeline) -> Feed:
        """Tell of a session too."""
        self._session = (store, session_id, timeline)
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer until the browser leaves."""
        await send(_START)
        async with anyio.create_task_group() as group:
            group.start_soon(self._tell_of_store, send)
            if self._session is not None:
                group.start_soon(self._tell_of_session, send, *self._session)
            group.start_soon(_until_left, receive, group.cancel_scope)
            await self._ended.wait()
            group.cancel_scope.cancel()

    async def _tell_of_store(self, send: Send) -> None:
        async with aclosing(self._board.follow()) as all_news:
            async for news in all_news:
                await _send(send, news.name, news.data)

    async def _tell_of_session(self, send: Send, store: Store, session_id: str, timeline: Timeline) -> None:
        """However busy it is, it is looked at a few times a second at most."""
        known: tuple[str, JSON] | None = None
        async with aclosing(store.changes(session_id)) as changes:
            async for _ in changes:
                begin = time.monotonic()
                found = await _looked(timeline)
                if found != known:
                    await _send(send, *found)
                known = found
                await asyncio.sleep(max(_PAUSE, _SHARE * (time.monotonic() - begin)))


async def _looked(timeline: Timeline) -> tuple[str, JSON]:
    try:
        return "session", await timeline.look()
    except (SessionNotFound, InvalidInput) as error:
        return "gone", refusal(error)
    except PersistError as error:
        return "trouble", refusal(error)


async def _send(send: Send, name: str, data: JSON) -> None:
    body = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        """The request has a body, which is not wanted."""
    scope.cancel()
