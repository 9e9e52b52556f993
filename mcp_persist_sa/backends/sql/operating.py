"""What an operator asks of a SQL database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial

from mcp_persist_sa.backends.sql import audit, outlines, policies, stats
from mcp_persist_sa.backends.sql.examining import examine
from mcp_persist_sa.backends.sql.parcels import Parcels
from mcp_persist_sa.backends.sql.tending import Tending
from mcp_persist_sa.backends.sql.work import Work
from mcp_persist_sa.database import Database
from mcp_persist_sa.errors import RecordConflict
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import AuditPage, Finding, Policy, Stats
from mcp_persist_sa.records import EventRecord, Outline, OutlinePage, Parcel


class Operating(Work):
    """Moves, tends and looks at what is kept."""

    def __init__(self, database: Database, options: Options) -> None:
        super().__init__(database, options)
        self._parcels = Parcels(database.dialect, options.namespace)
        self._tending = Tending(database, options, self._common)

    # Records

    async def session_keys(self) -> AsyncIterator[list[str]]:
        after: str | None = ""
        while after is not None:
            page = await self._read(partial(outlines.session_keys, namespace=self._options.namespace, after=after))
            if page.keys:
                yield page.keys
            after = page.last

    async def read_outline(self, session_key: str, *, after: Outline | None, limit: int, max_bytes: int) -> OutlinePage:
        return await self._read(
            lambda c: outlines.read_outline(c, session_key, after=after, limit=limit, max_bytes=max_bytes)
        )

    async def read_events(
        self, session_key: str, stream_key: str, *, after: int, limit: int, max_bytes: int
    ) -> list[EventRecord]:
        return await self._read(
            lambda c: outlines.read_events(c, session_key, stream_key, after=after, limit=limit, max_bytes=max_bytes)
        )

    async def write_parcels(self, parcels: Sequence[Parcel]) -> list[RecordConflict | None]:
        return await self._write(lambda c: self._parcels.write(c, parcels), atomic=True)

    # Retention

    async def purge(self) -> Purged:
        return await self._purge.everything()

    # Policies

    async def set_policy(self, policy: Policy) -> None:
        await self._write(lambda c: policies.put(c, self._options.namespace, policy))

    async def remove_policy(self, tenant: str | None) -> bool:
        return await self._write(lambda c: policies.remove(c, self._options.namespace, tenant))

    async def policy(self, tenant: str | None) -> Policy | None:
        return await self._read(lambda c: policies.get(c, self._options.namespace, tenant))

    async def policies(self) -> list[Policy]:
        return await self._read(lambda c: policies.everyone(c, self._options.namespace))

    async def audit(self, tenant: str | None, *, after: str | None, limit: int) -> AuditPage:
        return await self._read(lambda c: audit.page(c, self._common(), tenant, after_page=after, limit=limit))

    # Oversight

    async def tend(self, node_id: str, lease: timedelta, pause: timedelta) -> Purged | None:
        return await self._tending.turn(node_id, lease, pause)

    async def leave_tending(self, node_id: str) -> None:
        await self._tending.leave(node_id)

    async def stats(self, *, exact: bool) -> Stats:
        return await self._read(lambda c: stats.figures(c, self._common(), self._options.schema, exact=exact))

    async def purgeable(self) -> Purged:
        return await self._purge.foreseen()

    async def examine(self) -> list[Finding]:
        return await self._read(lambda c: examine(c, self._options, self._common()))
