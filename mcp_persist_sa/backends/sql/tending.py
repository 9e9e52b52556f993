"""One node of a namespace keeps the tables in order: the one that holds the lease."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql import leases
from mcp_persist_sa.backends.sql.chunks import Chunks
from mcp_persist_sa.backends.sql.purge import Purge
from mcp_persist_sa.database import Database, write
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import Options

_DUTY = "tending"
_REST = {"sqlite": 1.0, "postgresql": 2.0}
"""For how many times as long as a part of the purge took the others then go on undisturbed."""

_THOROUGH_EVERY = 3600.0


class _NotElected(Exception):
    """The lease ran out, and another node may have taken it."""


class Tending:
    """Purges, as the only node that does.

    Each transaction of a purge begins by extending the lease. So it is fenced: of a node that was slow, and whose lease
    another one took meanwhile, not even one more transaction commits.
    """

    def __init__(self, database: Database, options: Options, common: Callable[[], dict[str, Any]]) -> None:
        self._database = database
        self._options = options
        self._common = common
        self._thorough_at = monotonic()

    async def turn(self, node_id: str, lease: timedelta, pause: timedelta) -> Purged | None:
        """Purge once, unless another node has the lease."""
        if not await write(self._database, lambda c: leases.take(c, _DUTY, node_id, lease, self._common())):
            return None
        extend = partial(self._extend, node_id, lease)
        chunks = Chunks(self._database, rest=_REST[self._database.dialect], first=extend)
        thorough = monotonic() >= self._thorough_at
        try:
            purge = Purge(self._database, self._options, self._common, chunks, by=node_id)
            removed = await purge.everything(thorough=thorough)
            await write(self._database, partial(self._extend, node_id, pause + lease))
        except _NotElected:
            return None
        if thorough:
            self._thorough_at = monotonic() + _THOROUGH_EVERY
        return removed

    def _extend(self, node_id: str, lease: timedelta, connection: sa.Connection) -> None:
        if not leases.extend(connection, _DUTY, node_id, lease, self._common()):
            raise _NotElected

    async def leave(self, node_id: str) -> None:
        """Give the lease back, if this node has it."""
        await write(self._database, lambda c: leases.release(c, _DUTY, node_id, self._common()))
