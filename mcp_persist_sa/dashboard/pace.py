"""How often a store is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from math import inf
from time import monotonic


class Pace:
    """Rests between looks for so long that they take a share of the time.

    One look alone that took long is no reason: it may have waited for a database that was away.
    """

    def __init__(self, *, least: float, share: int) -> None:
        """Set it.

        Args:
            least: Seconds to rest in any case.
            share: How many times as long as a look the rest is.
        """
        self._least = least
        self._share = share
        self._took = self._took_before = inf

    @contextmanager
    def look(self) -> Generator[None, None, None]:
        """Look at the store; a look that fails says nothing of how long one takes."""
        begin = monotonic()
        yield
        self._took_before, self._took = self._took, monotonic() - begin

    @property
    def pause(self) -> float:
        """Seconds to rest now."""
        took = min(self._took, self._took_before)
        return max(self._least, 0 if took == inf else self._share * took)

    async def rest(self) -> None:
        """Wait until it is time to look again."""
        await asyncio.sleep(self.pause)
