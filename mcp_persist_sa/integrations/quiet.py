"""A GET that nobody sees: it keeps the SDK's copy of a session alive, and tells when the SDK ends its GET stream."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message

from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.integrations.calls import Copy, current


class QuietGet:
    """A GET in this process to the SDK's copy of a session.

    Attributes:
        begun: Set once the SDK has answered.
        over: Set once the SDK has ended it.
        holders: How many GETs of clients depend on it.
        listeners: How many of these follow what belongs to no request: one, and for a moment one that it displaces.
    """

    def __init__(self, app: ASGIApp, copy: Copy) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.holders = 0
        self.listeners = 0
        self._task = asyncio.ensure_future(self._run(app, copy))

    async def _run(self, app: ASGIApp, copy: Copy) -> None:
        current.set(copy)
        scope = asgi.own_scope(copy.scope, "GET", copy.local_id, 0)
        try:
            await app(scope, asgi.receiving(b""), self._send)
        finally:
            self.begun.set()
            self.over.set()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun.set()

    @contextmanager
    def held(self, *, standalone: bool) -> Generator[None, None, None]:
        """Depend on it.

        Args:
            standalone: To follow what belongs to no request.
        """
        self.holders += 1
        self.listeners += standalone
        try:
            yield
        finally:
            self.holders -= 1
            self.listeners -= standalone

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait({self._task})
