"""What is found out about a server when it is opened: whether it can be used, and what it would lose."""

from __future__ import annotations

import logging
import re
from typing import Any, cast

from mcp_persist_sa.backends.redis.server import Server
from mcp_persist_sa.errors import StoreUnavailable

logger = logging.getLogger(__name__)

_OLDEST = (6, 2)


async def check_server(server: Server) -> None:
    """Refuse a server that is too old, and warn of one that does not keep what it is given.

    What a server does not tell, as many that are managed do not, is taken to be right.

    Raises:
        StoreUnavailable: It cannot be reached, or refuses (`AccessDenied`).
    """
    info, save = await server.ask(["INFO"], ["CONFIG", "GET", "save"])
    facts = _facts(info)
    version = tuple(int(part) for part in re.findall(r"\d+", facts.get("redis_version", ""))[:2])
    if version and version < _OLDEST:
        raise StoreUnavailable(f"This is Redis {facts['redis_version']}. Use Redis 6.2 or newer, or Valkey.")
    if facts.get("aof_enabled") == "0" and save in ([b"save", b""], {"save": ""}):
        logger.warning("This Redis writes nothing to disk: a restart loses everything. Set `appendonly yes`.")
    policy = facts.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        logger.warning(
            "This Redis removes sessions and events when its memory is full (maxmemory-policy %s). Set `noeviction`.",
            policy,
        )


def _facts(info: Any) -> dict[str, str]:
    if isinstance(info, dict):
        return {str(name): str(value) for name, value in cast("dict[Any, Any]", info).items()}
    if not isinstance(info, bytes):
        return {}
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, _, value in pairs}
