"""What is found out about a server when it is opened: whether it can be used, and what it would lose."""

from __future__ import annotations

import logging
import re
from typing import Any, cast

from mcp_persist_sa.backends.redis.server import Server
from mcp_persist_sa.errors import InvalidOption, StoreUnavailable
from mcp_persist_sa.options import Options

logger = logging.getLogger(__name__)

_OLDEST = (6, 2)
_WAITS_FOR_DISK = (7, 2)


async def check_server(server: Server, options: Options) -> None:
    """Refuse a server that is too old, and warn of one that does not keep what it is given.

    What a server does not tell, as many that are managed do not, is taken to be right.

    Raises:
        InvalidOption: It cannot do what the options demand.
        StoreUnavailable: It cannot be reached, or refuses (`AccessDenied`).
    """
    for info, save in await server.ask(["INFO"], ["CONFIG", "GET", "save"]):
        _check(facts_of(info), options, saves=not says_never(save))


def _check(facts: dict[str, str], options: Options, *, saves: bool) -> None:
    version = tuple(int(part) for part in re.findall(r"\d+", facts.get("redis_version", ""))[:2])
    if version and version < _OLDEST:
        raise StoreUnavailable(f"This is Redis {facts['redis_version']}. Use Redis 6.2 or newer, or Valkey.")
    if options.wait_aof and (version < _WAITS_FOR_DISK or facts.get("aof_enabled") == "0"):
        raise InvalidOption("The option wait_aof needs Redis 7.2, or Valkey, with `appendonly yes`.")
    if facts.get("aof_enabled") == "0" and not saves:
        logger.warning("This Redis writes nothing to disk: a restart loses everything. Set `appendonly yes`.")
    policy = facts.get("maxmemory_policy", "")
    if policy.startswith("allkeys-"):
        logger.warning(
            "This Redis removes sessions and events when its memory is full (maxmemory-policy %(policy)s). Set "
            "`noeviction`.",
            {"policy": policy},
        )


def setting_of(answer: Any) -> str | None:
    """The value in the answer to CONFIG GET, a list or a mapping; None where it may not be asked."""
    if isinstance(answer, dict):
        found = [*cast("dict[Any, Any]", answer).values()]
    else:
        found = cast("list[Any]", answer)[1:] if isinstance(answer, list) else []
    value = next(iter(found), None)
    return value.decode() if isinstance(value, bytes) else value


def says_never(save: Any) -> bool:
    """Whether a server says that it never takes a snapshot."""
    return setting_of(save) == ""


def facts_of(info: Any) -> dict[str, str]:
    """What a server tells of itself, by name; nothing where it may not be asked."""
    if isinstance(info, dict):
        return {str(name): str(value) for name, value in cast("dict[Any, Any]", info).items()}
    if not isinstance(info, bytes):
        return {}
    pairs = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, _, value in pairs}
