"""What all pieces of work on a SQL database have in common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, TypeVar

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.purge import Purge
from mcp_persist_sa.database import Database, once, read, write
from mcp_persist_sa.faults import Failure
from mcp_persist_sa.options import Options

T = TypeVar("T")


class Work:
    """Reads from a database, and writes to it, with the parameters that the statements share."""

    def __init__(self, database: Database, options: Options) -> None:
        self._database = database
        self._options = options
        self._purge = Purge(database, options, self._common)

    def _now(self) -> datetime | None:
        if self._options.clock is not None:
            return self._options.clock()
        return datetime.now(timezone.utc) if self._database.dialect == "sqlite" else None

    def _common(self) -> dict[str, Any]:
        """The parameters that many statements share."""
        options = self._options
        return {
            "now": self._now(),
            "in_namespace": options.namespace,
            "session_ttl": options.span("session_ttl"),
            "state_ttl": options.span("state_ttl"),
            "event_ttl": options.span("event_ttl"),
            "touch_interval": options.touch_interval,
        }

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return await read(self._database, work)

    async def _write(self, work: Callable[[sa.Connection], T], *, atomic: bool = False, repeatable: bool = True) -> T:
        return await write(self._database, work, atomic=atomic, repeatable=repeatable)

    async def _once(
        self, work: Callable[[sa.Connection], T], *, atomic: bool, writes: bool, protected: bool = True
    ) -> T:
        try:
            return await once(self._database, work, atomic=atomic, writes=writes, protected=protected)
        except Failure as failure:
            raise failure.error from failure.__cause__
