"""What is removed before it expires by itself: by `purge`, by deletion, over a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from mcp_persist_sa import identity
from mcp_persist_sa.backends.redis.keys import Keys, span
from mcp_persist_sa.backends.redis.nodes import Nodes
from mcp_persist_sa.backends.redis.over_limits import over_limits
from mcp_persist_sa.backends.redis.records import session_of
from mcp_persist_sa.backends.redis.scripts import LIMITS, SESSION, STREAMS, TIDY
from mcp_persist_sa.backends.redis.server import Server
from mcp_persist_sa.backends.redis.sessions import Sessions
from mcp_persist_sa.limits import Growth, Limits
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import FORGET_AFTER, Options

Breathe: TypeAlias = Callable[[], Awaitable[None]]
"""Lets others go on, before each part of a purge; what it raises ends the purge."""


async def _at_once() -> None:
    """Nobody is waited for."""


class Retention(Sessions, Nodes):
    """Removes what need not be kept, a little at a time, so that no script keeps the server for long."""

    def __init__(self, server: Server, options: Options, keys: Keys) -> None:
        super().__init__(server, options, keys)
        self._limits = Limits.of(options)
        self._growth = Growth(self._limits, self._trim_once)

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
        return await self._purge(_at_once)

    async def _purge(self, breathe: Breathe) -> Purged:
        """Remove all that need not be kept; before each part, breathe."""
        removed = Purged()
        async for chunk in self._session_keys():
            for session_key in chunk:
                removed = removed.plus(await self._tidy(session_key, breathe))
        await self._forget_old_nodes()
        return removed

    async def _forget_old_nodes(self) -> None:
        for node_id, is_alive in (await self.nodes()).items():
            if not is_alive:
                await self._remove_node(node_id, if_old=True)

    async def purgeable(self) -> Purged:
        """See `OversightBackend`."""
        total = Purged()
        async for chunk in self._session_keys():
            for session_key in chunk:
                total = total.plus(await self._foreseen(session_key))
        return total

    async def _foreseen(self, session_key: str) -> Purged:
        """What `_tidy` would remove."""
        *counts, _, expired = await self._read(TIDY, session_key, *self._times(), 1)
        foreseen = Purged(*counts)
        if foreseen.sessions or not self._limits.any:
            return foreseen
        gone = dict(zip(expired[::2], expired[1::2], strict=True))
        found = await self._read(LIMITS, session_key)
        left = {key: rows[gone.get(key, 0) :] for key, rows in zip(found[::2], found[1::2], strict=True)}
        through = over_limits([part for entry in left.items() for part in entry], self._limits)
        over = [
            row for key, rows in left.items() for row in rows if int(row.split()[0]) <= through.get(key.decode(), 0)
        ]
        return foreseen.plus(Purged(events=len(over)))

    def _times(self) -> tuple[str, str, str]:
        return self._ttl("event_ttl"), self._ttl("state_ttl"), span(FORGET_AFTER)

    async def remove_node(self, node_id: str) -> None:
        """See `NodeBackend`."""
        await self._remove_node(node_id, if_old=False)

    async def _remove_node(self, node_id: str, *, if_old: bool) -> None:
        """Remove a node's lease, and then, when nobody sends to it any more, its inbox."""
        if await self._forget_node(node_id, if_old=if_old):
            await self._remove(identity.session_key(self._options.namespace, identity.inbox_of(node_id)))

    async def _session_keys(self) -> AsyncIterator[list[str]]:
        """All of which anything is kept, recorded or not."""
        seen: set[str] = set()
        async for keys in self._server.scan(self._keys.pattern):
            found = {self._keys.session_of(key.decode(errors="replace")) for key in keys} - seen
            seen |= {key for key in found if key is not None}
            yield [key for key in found if key is not None]

    async def _tidy(self, session_key: str, breathe: Breathe) -> Purged:
        await breathe()
        session = session_of(await self._read(SESSION, session_key, "any"))
        removed, more = Purged(), True
        while more:
            *counts, more, _ = await self._write(TIDY, session_key, *self._times(), 0)
            removed = removed.plus(Purged(*counts))
            await breathe()
        if removed.sessions:
            await self._leave(session_key, session)
        elif self._limits.any:
            removed = removed.plus(Purged(events=await self._trim(session_key, breathe)))
        return removed

    async def _trim(self, session_key: str, breathe: Breathe) -> int:
        """Remove what is over a limit."""
        removed = 0
        found = await self._read(LIMITS, session_key)
        for stream_key, through in over_limits(found, self._limits).items():
            await breathe()
            removed += await self.delete_before(session_key, stream_key, through + 1)
        return removed

    async def _trim_once(self, session_key: str) -> None:
        """The same, but a fault is not waited out."""
        [found] = await self._server.once([self._call(LIMITS, session_key)], writes=False)
        for stream_key, through in over_limits(found, self._limits).items():
            call = self._call(STREAMS, session_key, "delete_before", stream_key, through + 1)
            while (await self._server.once([call]))[0]:
                """Some at a time."""
