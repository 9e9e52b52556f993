"""Leave to serve a session for a moment without asking the store whether it is still open."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from mcp_persist_sa.errors import PersistError, SessionNotFound
from mcp_persist_sa.integrations.bounds import within
from mcp_persist_sa.integrations.calls import Copy
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

T = TypeVar("T")

LASTS = 0.1
"""Seconds from when the store was asked. Whoever ends a session waits as long before it says so."""
_RENEWED_WITH_LEFT = LASTS / 2


class Permits:
    """One question to the store serves all sessions that are in use, and is asked before their permits have run out."""

    def __init__(self, store: Store, patience: float) -> None:
        """Make them.

        Args:
            store: Which knows what is open.
            patience: Seconds to wait for it.
        """
        self._store = store
        self._patience = patience
        self._in_use: set[Copy] = set()
        self._next: asyncio.Task[set[Copy]] | None = None
        self._renewal: asyncio.Task[set[Copy]] | None = None
        self._touching = False
        self._running: set[asyncio.Task[Any]] = set()

    async def given(self, copy: Copy) -> bool:
        """Whether a session may be served: it is open, or was a moment ago.

        Args:
            copy: Of the session.

        Raises:
            StoreUnavailable: The store cannot tell.
        """
        self._in_use.add(copy)
        left = copy.permitted_until - time.monotonic()
        if left <= 0:
            return copy in await asyncio.shield(self._asked())
        if left < _RENEWED_WITH_LEFT and (self._renewal is None or self._renewal.done()):
            self._renewal = self._asked()
        return True

    def _asked(self) -> asyncio.Task[set[Copy]]:
        """The question that is about to be asked, for all who need it in this turn of the event loop."""
        if self._next is None:
            self._next = self._spawn(self._ask())
        return self._next

    async def _ask(self) -> set[Copy]:
        self._next = None
        copies, self._in_use = self._in_use, set()
        asked = time.monotonic()
        async with within(self._patience):
            open_ids = await self._store.sessions.are_open({copy.session_id for copy in copies})
        permitted = {copy for copy in copies if copy.session_id in open_ids}
        for copy in permitted:
            copy.permitted_until = max(copy.permitted_until, asked + LASTS)
        if not self._touching:
            self._touching = True
            self._spawn(self._touch(open_ids))
        return permitted

    async def _touch(self, session_ids: set[str]) -> None:
        try:
            for session_id in session_ids:
                with suppress(SessionNotFound):
                    await self._store.sessions.touch(session_id)
        except PersistError as error:
            logger.debug("Sessions were not touched: %(error)s", {"error": error})
        finally:
            self._touching = False

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            # Whoever waits is told; nobody may wait.
            task.exception()

    async def close(self) -> None:
        """Ask no more."""
        running = [*self._running]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
