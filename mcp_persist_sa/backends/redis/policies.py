"""Policies and their trail, which Redis cannot give."""

from __future__ import annotations

from mcp_persist_sa.errors import Unsupported
from mcp_persist_sa.oversight import AuditPage, Policy


class Policies:
    """Refuses what is asked. Keys expire by themselves, and then nothing is left that could be written down."""

    async def set_policy(self, policy: Policy) -> None:
        raise _unsupported()

    async def remove_policy(self, tenant: str | None) -> bool:
        raise _unsupported()

    async def policy(self, tenant: str | None) -> Policy | None:
        raise _unsupported()

    async def policies(self) -> list[Policy]:
        raise _unsupported()

    async def audit(self, tenant: str | None, *, after: str | None, limit: int) -> AuditPage:
        raise _unsupported()


def _unsupported() -> Unsupported:
    return Unsupported(
        "On Redis there are no policies of tenants, nor a trail of what was removed: keys expire by themselves, and "
        "nobody sees them go. Give a tenant a namespace with options of its own, or use SQLite or Postgres."
    )
