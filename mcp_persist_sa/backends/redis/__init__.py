"""Redis and Valkey, by scripts that run on the server."""

from mcp_persist_sa.backends.redis.backend import RedisBackend

__all__ = ["RedisBackend"]
