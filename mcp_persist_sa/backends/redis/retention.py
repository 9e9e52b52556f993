"""What is removed before it expires by itself: by `purge`, by deletion, over a limit."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from itertools import islice

from mcp_persist_sa import identity
from mcp_persist_sa.backends.redis.keys import Keys, span
from mcp_persist_sa.backends.redis.limits import Limits, over_limits
from mcp_persist_sa.backends.redis.nodes import FORGET_AFTER, Nodes
from mcp_persist_sa.backends.redis.records import session_of
from mcp_persist_sa.backends.redis.scripts import LIMITS, SESSION, STREAMS, TIDY
from mcp_persist_sa.backends.redis.server import Server
from mcp_persist_sa.backends.redis.sessions import Sessions
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import Options
from mcp_persist_sa.protocols import Append

logger = logging.getLogger(__name__)

_MAX_GROWN = 100_000


class Retention(Sessions, Nodes):
    """Removes what need not be kept, a little at a time, so that no script keeps the server for long."""

    def __init__(self, server: Server, options: Options, keys: Keys) -> None:
        super().__init__(server, options, keys)
        self._limits = Limits(
            options.max_events_per_stream,
            options.max_bytes_per_stream,
            options.max_events_per_session,
            options.max_bytes_per_session,
        )
        self._grown: dict[str, tuple[int, int]] = {}

    async def delete_before(self, session_key: str, stream_key: str, sequence: int) -> int:
        """See `EventBackend`."""
        removed = 0
        while count := await self._write(STREAMS, session_key, "delete_before", stream_key, sequence):
            removed += count
        return removed

    async def delete_events(self, session_key: str) -> Purged:
        """See `EventBackend`."""
        streams, events = await self._write(STREAMS, session_key, "delete_all")
        return Purged(streams=streams, events=events)

    async def purge(self) -> Purged:
        """See `Backend`."""
        removed = Purged()
        async for chunk in self._session_keys():
            for session_key in chunk:
                removed = removed.plus(await self._tidy(session_key))
        for node_id, is_alive in (await self.nodes()).items():
            if not is_alive:
                await self._remove_node(node_id, if_old=True)
        return removed

    async def remove_node(self, node_id: str) -> None:
        """See `NodeBackend`."""
        await self._remove_node(node_id, if_old=False)

    async def _remove_node(self, node_id: str, *, if_old: bool) -> None:
        """Remove a node's lease, and then, when nobody sends to it any more, its inbox."""
        if await self._forget_node(node_id, if_old=if_old):
            await self._remove(identity.session_key(self._options.namespace, identity.inbox_of(node_id)))

    async def _session_keys(self) -> AsyncIterator[list[str]]:
        """All that have anything, recorded or not."""
        seen: set[str] = set()
        async for keys in self._server.scan(self._keys.pattern):
            found = {self._keys.session_of(key.decode(errors="replace")) for key in keys} - seen
            seen |= {key for key in found if key is not None}
            yield [key for key in found if key is not None]

    async def _tidy(self, session_key: str) -> Purged:
        session = session_of(await self._read(SESSION, session_key, "any"))
        removed, more = Purged(), True
        while more:
            times = (self._ttl("event_ttl"), self._ttl("state_ttl"), span(FORGET_AFTER))
            *counts, more = await self._write(TIDY, session_key, *times)
            removed = removed.plus(Purged(*counts))
        if removed.sessions:
            await self._leave(session_key, session)
        elif self._limits.any:
            removed = removed.plus(Purged(events=await self._trim(session_key)))
        return removed

    async def _trim(self, session_key: str) -> int:
        """Remove what is over a limit."""
        removed = 0
        found = await self._read(LIMITS, session_key)
        for stream_key, through in over_limits(found, self._limits).items():
            removed += await self.delete_before(session_key, stream_key, through + 1)
        return removed

    async def _trim_grown(self, batch: Sequence[Append]) -> None:
        """After events were stored: remove what is over a limit in sessions that have grown by a tenth of it.

        The events are stored whatever becomes of this; it is tried again when the session grows further.
        """
        if not self._limits.any:
            return
        try:
            for session_key in self._note_growth(batch):
                await self._trim(session_key)
                self._grown.pop(session_key, None)
        except PersistError as error:
            logger.warning("Events over a limit were not removed; it is tried again: %s", error)

    def _note_growth(self, batch: Sequence[Append]) -> set[str]:
        """The sessions that have to be looked at now."""
        max_count, max_size = self._limits.slack()
        due: set[str] = set()
        for group in batch:
            count, size = self._grown.pop(group.session_key, (0, 0))
            count, size = count + len(group.events), size + sum(group.sizes)
            self._grown[group.session_key] = (count, size)
            if count > max_count or size > max_size:
                due.add(group.session_key)
        # What is noted of too many sessions is not forgotten, but acted upon, beginning with the least recent.
        due.update(islice(self._grown, max(0, len(self._grown) - _MAX_GROWN)))
        return due
