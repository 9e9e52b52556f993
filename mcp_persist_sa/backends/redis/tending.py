"""One node of a namespace keeps it in order: the one that has the duty."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic

from mcp_persist_sa.backends.redis.keys import Keys, span
from mcp_persist_sa.backends.redis.retention import Retention
from mcp_persist_sa.backends.redis.server import Server
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import Options

_REST = 2.0
_RENEWAL = 1.0
_WHOLE_EVERY = 3600.0


class _NotElected(Exception):
    """The lease ran out, and another node may have taken it."""


class Tending(Retention):
    """Purges, as the only node that does.

    The lease is in another slot than the sessions, so it is extended between the parts of a purge and not with them. Of
    a node that was slow, at most the part that was under way still happens; each part is right whoever runs it.
    """

    def __init__(self, server: Server, options: Options, keys: Keys) -> None:
        super().__init__(server, options, keys)
        self._whole_at = monotonic()

    async def tend(self, node_id: str, lease: timedelta, pause: timedelta) -> Purged | None:
        """See `TendingBackend`."""
        if not await self._have_duty(node_id, lease, anew=True):
            return None
        try:
            removed = await self._round(node_id, lease)
        except _NotElected:
            return None
        return removed if await self._have_duty(node_id, pause + lease) else None

    async def _round(self, node_id: str, lease: timedelta) -> Purged:
        """By the server's clock most expires by itself; by another one, all has to be looked at each time."""
        if self._options.clock is None and monotonic() < self._whole_at:
            await self._forget_old_nodes()
            return Purged()
        removed = await self._purge(_Turn(self, node_id, lease).breathe)
        self._whole_at = monotonic() + _WHOLE_EVERY
        return removed

    async def _have_duty(self, node_id: str, lease: timedelta, *, anew: bool = False) -> bool:
        """Extend the lease, or take it if nobody has it and that is wanted."""
        return bool((await self._server.write(self._leases("tend", node_id, span(lease), "" if anew else "1")))[0])

    async def extend(self, node_id: str, lease: timedelta) -> None:
        """Extend the lease.

        Raises:
            _NotElected: This node does not have it any more.
        """
        if not await self._have_duty(node_id, lease):
            raise _NotElected

    async def leave_tending(self, node_id: str) -> None:
        """See `TendingBackend`."""
        await self._server.write(self._leases("leave_tending", node_id))


class _Turn:
    """The purge of one node, which rests after each part for twice as long as that took."""

    def __init__(self, tending: Tending, node_id: str, lease: timedelta) -> None:
        self._tending = tending
        self._node_id = node_id
        self._lease = lease
        self._went_on_at = self._extended_at = monotonic()

    async def breathe(self) -> None:
        await asyncio.sleep(_REST * (monotonic() - self._went_on_at))
        if monotonic() - self._extended_at > _RENEWAL:
            await self._tending.extend(self._node_id, self._lease)
            self._extended_at = monotonic()
        self._went_on_at = monotonic()
