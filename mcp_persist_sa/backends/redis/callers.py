"""Those who use connections at the moment: at most so many at once, counted."""

from __future__ import annotations

import asyncio

from mcp_persist_sa.models import PoolHealth


class Callers:
    """Lets callers in, `async with` it, and lets the others wait."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._room = asyncio.Semaphore(most)

    async def __aenter__(self) -> None:
        await self._room.acquire()
        self._inside += 1

    async def __aexit__(self, *_: object) -> None:
        self._inside -= 1
        self._room.release()

    def health(self) -> PoolHealth:
        """How many there may be, and are."""
        return PoolHealth(self._most, self._inside)
