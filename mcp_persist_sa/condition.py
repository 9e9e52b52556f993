"""How a store is, and keeping it in order: the part of the store that is for whoever operates it."""

from __future__ import annotations

import time

from anyio import move_on_after

from mcp_persist_sa.checks import check_whole
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.identity import check_name
from mcp_persist_sa.models import Health, Purged
from mcp_persist_sa.oversight import AuditPage, Finding, Stats
from mcp_persist_sa.parts import Part
from mcp_persist_sa.policies import Policies
from mcp_persist_sa.protocols import Backend


class Condition(Part):
    """How a store is."""

    @property
    def backend(self) -> Backend:
        """What keeps the data, for tools that operate on it as a whole."""
        return self._now_open.backend

    async def health(self, *, timeout: float = 5.0) -> Health:
        """How the store is. That the database cannot be reached is in the answer, and no error.

        Args:
            timeout: Seconds to wait for the database.
        """
        opened, begin = self._now_open, time.monotonic()
        revision, error = None, f"The database did not answer within {timeout:g} s."
        with move_on_after(timeout):
            try:
                revision, error = await opened.backend.revision(), None
            except PersistError as failure:
                error = str(failure)
        latency, pool = time.monotonic() - begin, opened.backend.pool()
        return Health(error is None, latency, revision, error, opened.notifier.health(), pool)

    async def stats(self, *, exact: bool = False) -> Stats:
        """What the namespace holds: sessions, streams, events, rates, the oldest and the largest.

        Args:
            exact: Whether to read every event, which takes seconds where there are millions; otherwise events are
                counted by the numbers of their streams, and bytes are not.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        return await self._now_open.backend.stats(exact=exact)

    async def purgeable(self) -> Purged:
        """What `purge` would remove; it is counted, which takes seconds where there are millions of events."""
        return await self._now_open.backend.purgeable()

    async def examine(self) -> list[Finding]:
        """What there is to know, and to do, about the database: see `mcp-persist-sa doctor`.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        return await self._now_open.backend.examine()

    async def purge(self) -> Purged:
        """Remove what has expired or is over a limit, in chunks that never hold a writer for long."""
        return await self._now_open.backend.purge()

    @property
    def policies(self) -> Policies:
        """How much is kept of each tenant, where that is less than of others."""
        return Policies(self._now_open.backend, self._options)

    async def audit(self, *, tenant: str | None = None, limit: int = 100, after: str | None = None) -> AuditPage:
        """A page of what was removed, the newest first, where a policy says that it is to be known.

        Args:
            tenant: Only of this one.
            limit: Entries in the page.
            after: The `next` of the page before.

        Raises:
            InvalidInput: `after` is none of these.
            Unsupported: The database has no such trail.
        """
        check_whole("limit", limit, 1)
        if tenant is not None:
            check_name("tenant", tenant)
        return await self._now_open.backend.audit(tenant, after=after, limit=limit)

    async def nodes(self) -> dict[str, bool]:
        """The nodes of this namespace, and of each whether its lease holds: a dead one is kept in mind for an hour.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        return await self._now_open.backend.nodes()
