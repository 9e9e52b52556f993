"""Connections to the servers of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from mcp_persist_sa.backends.redis.server import Value
from mcp_persist_sa.faults import NotConnected

_SCANNED = 1000
_KEPT_APART = ("EVAL", "EVALSHA")


class ClusterWire:
    """Sends each script to the server of its keys, over the connections of a client, which follows slots that move.

    What has no keys is sent to one of the masters.
    """

    is_split = True

    def __init__(self, client: RedisCluster, size: int) -> None:
        self._client: Any = client
        self._room = asyncio.Semaphore(size)

    async def exchange(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        async with self._room:
            try:
                await self._client.initialize()
            except (RedisError, RedisClusterException, OSError) as error:
                raise NotConnected from error
            if len(commands) > 1 and commands[0][0] in _KEPT_APART:
                return await self._together(commands)
            return [await self._alone(command) for command in commands]

    async def _together(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def _alone(self, command: Sequence[Value]) -> Any:
        where = {} if command[0] in _KEPT_APART else {"target_nodes": self._client.get_primaries()[0]}
        try:
            return await self._client.execute_command(*command, **where)
        except ResponseError as error:
            return error
        except RedisClusterException as error:
            raise NotConnected from error

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        await self._client.initialize()
        async for key in self._client.scan_iter(match=pattern, count=_SCANNED):
            yield [key]

    async def close(self) -> None:
        """Nothing was taken that the client does not take back."""
