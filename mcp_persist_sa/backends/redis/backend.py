"""The store's data in Redis or Valkey."""

from __future__ import annotations

from typing import Literal

from redis.asyncio import Redis

from mcp_persist_sa.backends.redis.appends import Appends
from mcp_persist_sa.backends.redis.checking import check_server
from mcp_persist_sa.backends.redis.cluster import ClusterWire
from mcp_persist_sa.backends.redis.examining import Examining
from mcp_persist_sa.backends.redis.figures import Figures
from mcp_persist_sa.backends.redis.keys import Keys
from mcp_persist_sa.backends.redis.outlines import Outlines
from mcp_persist_sa.backends.redis.policies import Policies
from mcp_persist_sa.backends.redis.reads import Reads
from mcp_persist_sa.backends.redis.scripts import SESSION
from mcp_persist_sa.backends.redis.server import Durability, Server
from mcp_persist_sa.backends.redis.state import States
from mcp_persist_sa.backends.redis.tending import Tending
from mcp_persist_sa.backends.redis.wires import PooledWire
from mcp_persist_sa.clients import Client, close_client
from mcp_persist_sa.errors import InvalidOption
from mcp_persist_sa.faults import Failure
from mcp_persist_sa.models import PoolHealth
from mcp_persist_sa.options import Options


class RedisBackend(Appends, Reads, States, Figures, Tending, Examining, Outlines, Policies):
    """Keeps everything on a server, or in a cluster."""

    def __init__(self, client: Client, options: Options, *, owned: bool) -> None:
        """Make one.

        Args:
            client: Its connections are used.
            options: Of the store.
            owned: Whether to close it in the end.
        """
        self._client = client
        self._owned = owned
        size = options.pool_size
        is_one = isinstance(client, Redis)
        wire = PooledWire(client.connection_pool, size) if is_one else ClusterWire(client, size)
        durability = Durability(replicas=options.wait_replicas, on_disk=options.wait_aof)
        if durability.command and not is_one:
            raise InvalidOption("The options wait_replicas and wait_aof are not for a cluster.")
        server = Server(wire, timeout=options.timeout, durability=durability)
        super().__init__(server, options, Keys(options.key_prefix, options.namespace))

    async def check(self) -> None:
        """Find out whether the server can be used.

        Raises:
            StoreUnavailable: It cannot be reached, or refuses (`AccessDenied`).
        """
        await check_server(self._server, self._options)

    async def revision(self) -> str | None:
        """See `Backend`; there are none."""
        try:
            await self._server.once([self._call(SESSION, "", "is_open")], writes=False)
        except Failure as failure:
            raise failure.error from failure.__cause__
        return None

    @property
    def system(self) -> Literal["redis"]:
        """See `Backend`."""
        return "redis"

    def pool(self) -> PoolHealth:
        """See `Backend`."""
        return self._server.pool()

    async def close(self) -> None:
        """See `Backend`."""
        await self._server.close()
        if self._owned:
            await close_client(self._client)
