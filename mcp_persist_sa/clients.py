"""Clients of Redis and Valkey: from a DSN to a configured one."""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from mcp_persist_sa.dsn import DSN
from mcp_persist_sa.errors import InvalidDSN, InvalidOption
from mcp_persist_sa.options import Options

Client: TypeAlias = Redis | RedisCluster

_SENTINEL_PORT, _PORT = 26379, 6379


def redis_client(dsn: DSN, options: Options) -> Client:
    """A client that is not connected yet.

    Raises:
        InvalidDSN: The DSN is not understood.
    """
    parts = urlsplit(dsn.address)
    kind = parts.scheme.partition("+")[2]
    make = {"": _server, "cluster": _cluster, "sentinel": _sentinel}[kind]
    try:
        return make(parts, options)
    except InvalidDSN:
        raise
    except (ValueError, TypeError) as error:
        raise InvalidDSN(f"The driver does not accept the DSN: {error}.") from None


def check_client(client: object) -> Client:
    """Refuse what is no client that can be used.

    Raises:
        InvalidOption: It is none.
    """
    if not isinstance(client, Redis | RedisCluster):
        raise InvalidOption(f"Give a Redis or a RedisCluster of redis.asyncio, not {type(client).__name__}.")
    if isinstance(client, RedisCluster) and client.get_encoder().decode_responses:
        raise InvalidOption("Make the RedisCluster without decode_responses: what it answers is not all text.")
    return client


async def close_client(client: Client) -> None:
    """Close all connections of a client, those to Sentinel too."""
    await client.aclose()
    sentinels: Any = getattr(client.connection_pool, "sentinel_manager", None) if isinstance(client, Redis) else None
    for sentinel in sentinels.sentinels if sentinels else ():
        await sentinel.aclose()


def _settings(options: Options) -> dict[str, Any]:
    """What is the same for each connection: what may be done twice is known here, not in the driver."""
    return {
        "socket_connect_timeout": options.connect_timeout,
        "socket_timeout": None,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        **options.connect_args,
    }


def _server(parts: SplitResult, options: Options) -> Client:
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        # The driver would take database 0.
        raise InvalidDSN("The path of the DSN is the number of the database: redis://host:6379/0")
    pools: Any = ConnectionPool
    pool = pools.from_url(parts.geturl(), **_settings(options))
    _check_arguments(pool)
    return Redis.from_pool(pool)


def _check_arguments(pool: ConnectionPool) -> None:
    """Arguments that are unknown come to light when a connection is made."""
    pool.make_connection()


def _cluster(parts: SplitResult, options: Options) -> Client:
    if parts.path.strip("/") not in ("", "0"):
        raise InvalidDSN("A cluster has one database, so the DSN has no path: redis+cluster://host:6379")
    nodes = [ClusterNode(host, port) for host, port in _hosts(parts, _PORT)]
    make: Any = RedisCluster
    return make(startup_nodes=nodes, **_login(parts), **_arguments(parts), **_settings(options))


def _sentinel(parts: SplitResult, options: Options) -> Client:
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise InvalidDSN("Name the service of Sentinel: redis+sentinel://host:26379/service/0")
    arguments = _arguments(parts)
    quick = {"socket_timeout": options.connect_timeout, "socket_connect_timeout": options.connect_timeout}
    sentinels: Any = Sentinel(_hosts(parts, _SENTINEL_PORT), sentinel_kwargs={**arguments, **quick})
    settings = {**arguments, **_login(parts), **_settings(options)}
    client: Redis = sentinels.master_for(unquote(service), db=int(database or 0), **settings)
    _check_arguments(client.connection_pool)
    return client


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
    }


def _arguments(parts: SplitResult) -> dict[str, Any]:
    """What the query says, as the driver reads it in the URL of a server; and whether to use TLS."""
    found: Any = parse_url(f"redis://?{parts.query}")
    return {**found, **({"ssl": True} if parts.scheme.startswith("rediss") else {})}
