"""Connections to the servers of a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from mcp_persist_sa.backends.redis.callers import Callers
from mcp_persist_sa.backends.redis.server import Value
from mcp_persist_sa.faults import NotConnected

_SCANNED = 1000
_SCANNED_TOGETHER = 200


class ClusterWire:
    """Sends each script to the server of its keys, over the connections of a client, which follows slots that move."""

    is_split = True

    def __init__(self, client: RedisCluster, size: int) -> None:
        self._client: Any = client
        self.callers = Callers(size)

    async def exchange(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        async with self.callers:
            await self._learn_slots()
            if len(commands) == 1:
                return [await self._send(commands[0])]
            pipeline = self._client.pipeline()
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)

    async def ask(self, commands: Sequence[Sequence[Value]]) -> list[list[Any]]:
        async with self.callers:
            await self._learn_slots()
            masters = self._client.get_primaries()
            return [[await self._send(command, target_nodes=master) for command in commands] for master in masters]

    async def _learn_slots(self) -> None:
        try:
            await self._client.initialize()
        except (RedisError, RedisClusterException, OSError) as error:
            raise NotConnected from error

    async def _send(self, command: Sequence[Value], **where: Any) -> Any:
        try:
            return await self._client.execute_command(*command, **where)
        except ResponseError as error:
            return error

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        await self._learn_slots()
        keys: list[bytes] = []
        async for key in self._client.scan_iter(match=pattern, count=_SCANNED):
            keys.append(key)
            if len(keys) == _SCANNED_TOGETHER:
                yield keys
                keys = []
        yield keys

    async def close(self) -> None:
        """Nothing was taken that the client does not take back."""
