"""From a URL, or a client of the caller's, to a backend."""

from __future__ import annotations

from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mcp_persist_sa.backends.redis.backend import RedisBackend
from mcp_persist_sa.backends.redis.keys import Keys
from mcp_persist_sa.backends.redis.server import Server
from mcp_persist_sa.backends.redis.wires import PooledWire
from mcp_persist_sa.errors import InvalidDSN
from mcp_persist_sa.options import Options


def from_url(url: str, options: Options) -> RedisBackend:
    """A backend on a server that the store connects to by itself."""
    settings: dict[str, Any] = {
        "socket_connect_timeout": options.connect_timeout,
        "socket_timeout": None,
        "protocol": 2,
        # What may be done twice is known here, not there.
        "retry": Retry(NoBackoff(), 0),
        **options.connect_args,
    }
    pools: Any = ConnectionPool
    try:
        pool = pools.from_url(url, **settings)
    except ValueError as error:
        raise InvalidDSN(f"The driver does not accept the DSN: {error}.") from None
    return _backend(PooledWire(pool, options.pool_size, owned=True), options)


def from_client(client: Redis, options: Options) -> RedisBackend:
    """A backend on the connections of a client, which stays the caller's."""
    return _backend(PooledWire(client.connection_pool, options.pool_size, owned=False), options)


def _backend(wire: PooledWire, options: Options) -> RedisBackend:
    server = Server(wire, timeout=options.timeout)
    return RedisBackend(server, options, Keys(options.key_prefix, options.namespace))
