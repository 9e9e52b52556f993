"""How much is kept of streams and sessions, and when that is looked at."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from mcp_persist_sa.batches import Append, Place
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.faults import Failure
from mcp_persist_sa.options import Options

logger = logging.getLogger(__name__)

_MOST_NOTED = 100_000


@dataclass(frozen=True)
class Limits:
    """How much is kept; None for no limit."""

    events_per_stream: int | None
    bytes_per_stream: int | None
    events_per_session: int | None
    bytes_per_session: int | None

    @classmethod
    def of(cls, options: Options) -> Limits:
        """Those of a store."""
        return cls(
            options.max_events_per_stream,
            options.max_bytes_per_stream,
            options.max_events_per_session,
            options.max_bytes_per_session,
        )

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return self != Limits(None, None, None, None)

    def slack(self) -> tuple[float, float]:
        """How many events and bytes a session may grow before it is looked at: a tenth of the least limit."""
        counts = [limit for limit in (self.events_per_stream, self.events_per_session) if limit is not None]
        sizes = [limit for limit in (self.bytes_per_stream, self.bytes_per_session) if limit is not None]
        return min(counts, default=float("inf")) / 10, min(sizes, default=float("inf")) / 10


class Growth:
    """How far sessions have grown since they were last looked at."""

    def __init__(self, limits: Limits, trim: Callable[[str], Awaitable[None]]) -> None:
        """Make one.

        Args:
            limits: Of the store.
            trim: Tries once to remove what of a session is over a limit.
        """
        self._limits = limits
        self._trim = trim
        self._noted: dict[str, tuple[int, int]] = {}

    async def trim(self, batch: Sequence[Append], places: Sequence[Place | Exception]) -> None:
        """After events were stored: remove what is over a limit in sessions that have grown by a tenth of it.

        The events are stored whatever becomes of this; it is tried again when the session grows further.

        Args:
            batch: The events, with those that were refused.
            places: Where each group was stored.
        """
        if not self._limits.any:
            return
        stored = [group for group, place in zip(batch, places, strict=True) if isinstance(place, Place)]
        try:
            for session_key in self._note(stored):
                await self._trim(session_key)
                self._noted.pop(session_key, None)
        except (Failure, PersistError) as error:
            logger.warning("Events over a limit were not removed; it is tried again: %(error)s", {"error": error})

    def _note(self, batch: Sequence[Append]) -> set[str]:
        """The sessions that have to be looked at now."""
        max_count, max_size = self._limits.slack()
        due: set[str] = set()
        for group in batch:
            count, size = self._noted.pop(group.session_key, (0, 0))
            count, size = count + len(group.events), size + group.size
            self._noted[group.session_key] = (count, size)
            if count > max_count or size > max_size:
                due.add(group.session_key)
        # What is noted of too many sessions is not forgotten, but acted upon, beginning with the least recent.
        due.update(islice(self._noted, max(0, len(self._noted) - _MOST_NOTED)))
        return due
