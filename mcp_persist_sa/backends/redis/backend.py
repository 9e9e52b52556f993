"""The store's data in Redis or Valkey."""

from __future__ import annotations

from mcp_persist_sa.backends.redis.appends import Appends
from mcp_persist_sa.backends.redis.checking import check_server
from mcp_persist_sa.backends.redis.reads import Reads
from mcp_persist_sa.backends.redis.state import States


class RedisBackend(Appends, Reads, States):
    """Keeps everything on a server, or in a cluster."""

    async def check(self) -> None:
        """Find out whether the server can be used.

        Raises:
            StoreUnavailable: It cannot be reached, or refuses (`AccessDenied`).
        """
        await check_server(self._server)

    async def close(self) -> None:
        """See `Backend`."""
        await self._server.close()
