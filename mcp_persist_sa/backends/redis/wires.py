"""Connections to one server, or to the server that Sentinel names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ReadOnlyError, ResponseError

from mcp_persist_sa.backends.redis.callers import Callers
from mcp_persist_sa.backends.redis.server import Value
from mcp_persist_sa.faults import NotConnected

_SCANNED = 1000
_FRESH = 1.0
"""Seconds for which a connection that was just used is taken to be good."""


class PooledWire:
    """At most so many connections of a pool, each of which is held once it was taken.

    They are used directly, because a client sends a command again after a fault, which may be a second time.
    """

    is_split = False

    def __init__(self, pool: ConnectionPool, size: int) -> None:
        self._pool: Any = pool
        self.callers = Callers(size)
        self._free: list[tuple[Any, float]] = []
        self._closed = False

    async def exchange(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        async with self.callers:
            connection = await self._take()
            try:
                return await _exchange(connection, commands)
            finally:
                await self._leave(connection)

    async def ask(self, commands: Sequence[Sequence[Value]]) -> list[list[Any]]:
        return [await self.exchange(commands)]

    async def _take(self) -> Any:
        """The connection that was used last, so that those too many rest."""
        try:
            if self._free:
                connection, used_at = self._free.pop()
                if monotonic() - used_at < _FRESH and connection.is_connected:
                    return connection
                # The pool finds out whether it is still good.
                await self._pool.release(connection)
            return await self._pool.get_connection()
        except MasterNotFoundError as error:
            # What follows describes connections to Sentinel at length.
            raise NotConnected from MasterNotFoundError(str(error).partition(" : ")[0])
        except Exception as error:
            raise NotConnected from error

    async def _leave(self, connection: Any) -> None:
        if self._closed:
            await self._pool.release(connection)
        else:
            self._free.append((connection, monotonic()))

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        cursor = b"0"
        while True:
            found = (await self.exchange([["SCAN", cursor, "MATCH", pattern, "COUNT", _SCANNED]]))[0]
            if isinstance(found, Exception):
                raise found
            cursor, keys = found
            yield keys
            if cursor == b"0":
                return

    async def close(self) -> None:
        self._closed = True
        while self._free:
            await self._pool.release(self._free.pop()[0])


def _packed(command: Sequence[Value]) -> bytes:
    """A command as it is sent; the driver takes several times as long for one of thousands of parts."""
    parts = [f"*{len(command)}"]
    for value in command:
        text = value.decode() if isinstance(value, bytes) else str(value)
        parts.append(f"${len(text if text.isascii() else text.encode())}\r\n{text}")
    return "\r\n".join([*parts, ""]).encode()


async def _exchange(connection: Any, commands: Sequence[Sequence[Value]]) -> list[Any]:
    await connection.send_packed_command(b"".join(map(_packed, commands)), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response(disable_decoding=True))
        except ResponseError as error:
            answers.append(error)
    if any(isinstance(answer, ReadOnlyError) for answer in answers):
        # It is a replica by now: whoever connects again may be led to the master.
        await connection.disconnect()
    return answers
