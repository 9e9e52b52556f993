"""What is new, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
from starlette.types import Receive, Scope, Send

from mcp_persist_sa.dashboard.pages import News

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}


class Feed:
    """A response that goes on until the browser leaves."""

    def __init__(self, ended: asyncio.Event, *sources: AsyncGenerator[News, None]) -> None:
        """Make one.

        Args:
            ended: Ends it, so that the server can stop.
            *sources: What is told.
        """
        self._ended = ended
        self._sources = sources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await send(_START)
        async with anyio.create_task_group() as group:
            for source in self._sources:
                group.start_soon(_tell, source, send)
            group.start_soon(_until_left, receive, group.cancel_scope)
            await self._ended.wait()
            group.cancel_scope.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _tell(source: AsyncGenerator[News, None], send: Send) -> None:
    async with aclosing(source) as all_news:
        async for name, data in all_news:
            body = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        """The request has a body, which is not wanted."""
    scope.cancel()
