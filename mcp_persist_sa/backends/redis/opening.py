"""From a URL, or a client of the caller's, to a backend."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mcp_persist_sa.backends.redis.backend import RedisBackend
from mcp_persist_sa.backends.redis.cluster import ClusterWire
from mcp_persist_sa.backends.redis.keys import Keys
from mcp_persist_sa.backends.redis.server import Server, Wire
from mcp_persist_sa.backends.redis.wires import PooledWire
from mcp_persist_sa.errors import InvalidDSN, InvalidOption
from mcp_persist_sa.options import Options

_SENTINEL_PORT, _PORT = 26379, 6379


def from_url(url: str, options: Options) -> RedisBackend:
    """A backend that connects by itself.

    Raises:
        InvalidDSN: The URL is not understood.
    """
    parts = urlsplit(url)
    kind = parts.scheme.partition("+")[2]
    make = {"": _server_wire, "cluster": _cluster_wire, "sentinel": _sentinel_wire}[kind]
    try:
        return _backend(make(parts, options), options)
    except (ValueError, TypeError) as error:
        raise InvalidDSN(f"The driver does not accept the DSN: {error}.") from None


def _settings(options: Options) -> dict[str, Any]:
    """What is the same for each connection: what may be done twice is known here, not in the driver."""
    return {
        "socket_connect_timeout": options.connect_timeout,
        "socket_timeout": None,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        **options.connect_args,
    }


def _server_wire(parts: SplitResult, options: Options) -> Wire:
    pools: Any = ConnectionPool
    return PooledWire(pools.from_url(parts.geturl(), **_settings(options)), options.pool_size, owned=True)


def _cluster_wire(parts: SplitResult, options: Options) -> Wire:
    nodes = [ClusterNode(host, port) for host, port in _hosts(parts, _PORT)]
    client = RedisCluster(startup_nodes=nodes, **_login(parts), **_settings(options))
    return ClusterWire(client, options.pool_size, owned=True)


def _sentinel_wire(parts: SplitResult, options: Options) -> Wire:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise InvalidDSN("Name the service of Sentinel: redis+sentinel://host:26379/service/0")
    quick = {"socket_timeout": options.connect_timeout, "socket_connect_timeout": options.connect_timeout}
    sentinels: Any = Sentinel(_hosts(parts, _SENTINEL_PORT), sentinel_kwargs=quick)
    settings = {"db": int(database or 0), **_login(parts), **_settings(options)}
    pool = sentinels.master_for(unquote(service), **settings).connection_pool
    return PooledWire(pool, options.pool_size, owned=True)


def _hosts(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """The hosts, of which there may be several with commas between."""
    found: list[tuple[str, int]] = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        address = urlsplit(f"//{host}")
        found.append((address.hostname or "localhost", address.port or port))
    return found


def _login(parts: SplitResult) -> dict[str, Any]:
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    return {
        **({"username": unquote(user)} if user else {}),
        **({"password": unquote(password)} if colon else {}),
        **({"ssl": True} if parts.scheme.startswith("rediss") else {}),
    }


def from_client(client: object, options: Options) -> RedisBackend:
    """A backend on the connections of a client, which stays the caller's.

    Raises:
        InvalidOption: It is no client that can be used.
    """
    if isinstance(client, Redis):
        return _backend(PooledWire(client.connection_pool, options.pool_size, owned=False), options)
    if not isinstance(client, RedisCluster):
        raise InvalidOption("Give a Redis or a RedisCluster of redis.asyncio.")
    if client.get_encoder().decode_responses:
        raise InvalidOption("Make the RedisCluster without decode_responses: what it answers is not all text.")
    return _backend(ClusterWire(client, options.pool_size, owned=False), options)


def _backend(wire: Wire, options: Options) -> RedisBackend:
    server = Server(wire, timeout=options.timeout)
    return RedisBackend(server, options, Keys(options.key_prefix, options.namespace))
