"""Leave to serve a session for a moment without asking the store whether it is still open."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

from mcp_persist_sa.errors import PersistError, SessionNotFound
from mcp_persist_sa.integrations.bounds import within
from mcp_persist_sa.integrations.calls import Copy
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

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
        self._renewing: asyncio.Task[None] | None = None
        self._touching: asyncio.Task[None] | None = None

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
            return copy in await self._ask()
        if left < _RENEWED_WITH_LEFT and self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
        return True

    async def _renew(self) -> None:
        try:
            await self._ask()
        except PersistError as error:
            logger.debug("The next request of each session has to wait for the store: %s", error)
        finally:
            self._renewing = None

    async def _ask(self) -> set[Copy]:
        copies, self._in_use = self._in_use, set()
        asked = time.monotonic()
        with within(self._patience):
            open_ids = await self._store.sessions.are_open({copy.session_id for copy in copies})
        permitted = {copy for copy in copies if copy.session_id in open_ids}
        for copy in permitted:
            copy.permitted_until = max(copy.permitted_until, asked + LASTS)
        if self._touching is None:
            self._touching = asyncio.ensure_future(self._touch(open_ids))
        return permitted

    async def _touch(self, session_ids: set[str]) -> None:
        try:
            for session_id in session_ids:
                with suppress(SessionNotFound):
                    await self._store.sessions.touch(session_id)
        except PersistError as error:
            logger.debug("Sessions were not touched: %s", error)
        finally:
            self._touching = None

    async def close(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._renewing, self._touching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
