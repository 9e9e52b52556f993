"""When things are removed: by `purge`, when a session is deleted, and when a stream or session outgrows its limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa import identity
from mcp_persist_sa.backends.sql import cutting, foresight, nodes, removal, retention
from mcp_persist_sa.backends.sql.chunks import Chunks
from mcp_persist_sa.backends.sql.cutting import Cut
from mcp_persist_sa.backends.sql.retention import HEAD, Aged
from mcp_persist_sa.database import Database, once
from mcp_persist_sa.limits import Growth, Limits
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import FORGET_AFTER, Options

_TRIMMED = 1000


class Purge:
    """Removes what need not be kept, in chunks."""

    def __init__(
        self, database: Database, options: Options, common: Callable[[], dict[str, Any]], chunks: Chunks | None = None
    ) -> None:
        """Make it.

        Args:
            database: Where.
            options: Of the store.
            common: Gives what many statements share.
            chunks: How it runs; None for as fast as writers can bear.
        """
        self._database = database
        self._common = common
        self._chunks = Chunks(database) if chunks is None else chunks
        self._namespace = options.namespace
        self._event_ttl = options.span("event_ttl")
        self._limits = Limits.of(options)
        self.growth = Growth(self._limits, self._trim_once)

    async def everything(self, *, thorough: bool = True) -> Purged:
        """Remove all that has expired or is over a limit.

        Args:
            thorough: Whether to look also at sessions that may be a little over a limit, and at streams that should
                hold nothing any more.
        """
        removed = await self._expired_sessions()
        removed = removed.plus(Purged(events=await self._expired_events(thorough=thorough)))
        if thorough:
            removed = removed.plus(Purged(events=await self._over_limits()))
        streams = await self._all(removal.remove_empty_streams) if self._event_ttl is not None else 0
        state = await self._all(removal.remove_old_state)
        await self._all(removal.remove_deleted_state)
        await self._all(removal.remove_old_writers)
        for node_id in await self._chunks.read(lambda c: nodes.old(c, self._values())):
            await self.node(node_id, if_old=True)
        return removed.plus(Purged(streams=streams, state=state))

    def _values(self) -> dict[str, Any]:
        stream_ttl = None if self._event_ttl is None else 2 * self._event_ttl
        return {**self._common(), "stream_ttl": stream_ttl, "forget_after": FORGET_AFTER}

    async def _all(self, remove: Callable[..., int]) -> int:
        """Remove until a chunk is not full, and say how much it was."""
        total = 0
        while True:
            size = self._chunks.size
            values = {**self._values(), "limit": size}
            removed = await self._chunks.write(partial(remove, common=values), atomic=False)
            total += removed
            if removed < size:
                return total

    async def _expired_sessions(self) -> Purged:
        removed = Purged()
        while keys := await self._chunks.read(lambda c: removal.expired_sessions(c, self._common())):
            removed = removed.plus(await self.sessions(keys, if_expired=True))
        return removed

    async def _expired_events(self, *, thorough: bool) -> int:
        removed = 0
        after: Aged | None = retention.OLDEST
        while after is not None and self._event_ttl is not None:
            cuts, last = await self._chunks.read(partial(self._aged, after=after, thorough=thorough))
            removed += await self.cut(cuts)
            if not any(cut.through - cut.first >= HEAD - 1 for cut in cuts):
                after = last
        return removed

    def _aged(self, connection: sa.Connection, after: Aged, *, thorough: bool) -> tuple[list[Cut], Aged | None]:
        return retention.aged_streams(connection, self._common(), after, thorough=thorough)

    async def cut(self, cuts: Sequence[Cut]) -> int:
        """Remove the beginnings of streams."""
        removed = 0
        for chunk in cutting.chunks(cuts, lambda: self._chunks.size):
            removed += await self._chunks.write(partial(cutting.remove, cuts=chunk))
        return removed

    async def _over_limits(self) -> int:
        removed = 0
        async for cuts in self._cuts_over_limits():
            removed += await self.cut(cuts)
        return removed

    async def _cuts_over_limits(self) -> AsyncGenerator[list[Cut], None]:
        after = ""
        while self._limits.any:
            keys = await self._chunks.read(partial(self._session_keys, after=after))
            if not keys:
                break
            for key in keys:
                yield await self._chunks.read(partial(self._over, key))
            after = keys[-1]

    async def foreseen(self) -> Purged:
        """What `everything` would remove."""
        values = self._values()
        total = await self._chunks.read(lambda c: foresight.count(c, values))
        async for cuts in self._cuts_over_limits():
            counts = [await self._chunks.read(partial(foresight.count_cut, cut=cut, values=values)) for cut in cuts]
            total = total.plus(Purged(events=sum(counts)))
        return total

    def _session_keys(self, connection: sa.Connection, after: str) -> list[str]:
        return retention.session_keys(connection, self._common(), after)

    def _over(self, session_key: str, connection: sa.Connection) -> list[Cut]:
        return retention.over_limits(connection, session_key, self._limits)

    async def _trim_once(self, session_key: str) -> None:
        cuts = await once(self._database, partial(self._over, session_key), atomic=False, writes=False)
        for chunk in cutting.chunks(cuts, lambda: _TRIMMED):
            await once(self._database, partial(cutting.remove, cuts=chunk), atomic=True, writes=True)

    async def node(self, node_id: str, *, if_old: bool = False) -> None:
        """Remove a node's lease, and then, when nobody sends to it any more, its inbox."""
        remove = partial(nodes.remove, node_id=node_id, common=self._values(), if_old=if_old)
        if await self._chunks.write(remove, atomic=False):
            await self.session(identity.session_key(self._namespace, identity.inbox_of(node_id)))

    async def session(self, session_key: str) -> Purged:
        """Remove a session and all that belongs to it."""
        return await self.sessions([session_key], if_expired=False)

    async def sessions(self, keys: Sequence[str], *, if_expired: bool) -> Purged:
        """Remove sessions and all that belongs to them."""
        total = Purged()
        while keys:
            remove = partial(
                removal.remove_sessions,
                keys=keys,
                limit=self._chunks.size,
                if_expired=if_expired,
                common=self._common(),
            )
            removed, done = await self._chunks.write(remove)
            total, keys = total.plus(removed), keys[done:]
        return total

    async def session_events(self, session_key: str) -> Purged:
        """Remove the streams and events of a session."""
        total, is_all = Purged(), False
        while not is_all:
            remove = partial(removal.remove_contents, session_key=session_key, common=self._common())
            removed, is_all = await self._chunks.write(partial(remove, limit=self._chunks.size))
            total = total.plus(removed)
        return total
