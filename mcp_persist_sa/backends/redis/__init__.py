"""Redis and Valkey, by scripts that run on the server."""

from mcp_persist_sa.backends.redis.backend import RedisBackend
from mcp_persist_sa.backends.redis.opening import from_client, from_url

__all__ = ["RedisBackend", "from_client", "from_url"]
