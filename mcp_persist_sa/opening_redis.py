"""Opening Redis: apart from the rest, because its driver need not be installed."""

from __future__ import annotations

from mcp_persist_sa.backends.redis import RedisBackend
from mcp_persist_sa.clients import Client, check_client, redis_client
from mcp_persist_sa.dsn import DSN
from mcp_persist_sa.hints import Notifier
from mcp_persist_sa.notifiers.fanout import FanOut
from mcp_persist_sa.notifiers.redis import RedisNotifier
from mcp_persist_sa.options import Options
from mcp_persist_sa.protocols import Backend


async def open_redis(dsn: DSN, options: Options) -> tuple[Backend, Notifier]:
    """What stands behind a store that connects by itself."""
    return await _open(redis_client(dsn, options), options, owned=True)


async def open_client(client: object, options: Options) -> tuple[Backend, Notifier]:
    """What stands behind a store on the caller's client, which stays the caller's."""
    return await _open(check_client(client), options, owned=False)


async def _open(client: Client, options: Options, *, owned: bool) -> tuple[Backend, Notifier]:
    backend = RedisBackend(client, options, owned=owned)
    try:
        await backend.check()
    except BaseException:
        await backend.close()
        raise
    if options.background:
        return backend, RedisNotifier(client, options)
    return backend, FanOut(options.poll_interval, "polling")
