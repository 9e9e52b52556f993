"""When things are removed: by `purge`, when a session is deleted, and when a stream or session outgrows its limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa import identity
from mcp_persist_sa.backends.sql import audit, cutting, foresight, nodes, policies, removal, retention
from mcp_persist_sa.backends.sql.audit import Trail
from mcp_persist_sa.backends.sql.chunks import Chunks
from mcp_persist_sa.backends.sql.cutting import Cut
from mcp_persist_sa.backends.sql.retention import HEAD, SESSIONS_AT_A_TIME, Aged
from mcp_persist_sa.database import Database, once
from mcp_persist_sa.limits import Growth, Limits
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import FORGET_AFTER, Options
from mcp_persist_sa.oversight import Policy, Reason

CALL = "call"
"""Who removes, where it was a call of the store."""

_TRIMMED = 1000


class Purge:
    """Removes what need not be kept, in chunks."""

    def __init__(
        self,
        database: Database,
        options: Options,
        common: Callable[[], dict[str, Any]],
        chunks: Chunks | None = None,
        *,
        by: str = "purge",
    ) -> None:
        """Make it.

        Args:
            database: Where.
            options: Of the store.
            common: Gives what many statements share.
            chunks: How it runs; None for as fast as writers can bear.
            by: Who removes, for the trail.
        """
        self._database = database
        self._common = common
        self._chunks = Chunks(database) if chunks is None else chunks
        self._by = by
        self._namespace = options.namespace
        self._event_ttl = options.span("event_ttl")
        self._touch_interval = options.touch_interval
        self._limits = Limits.of(options)
        self.growth = Growth(self._limits, self._trim_once)

    async def everything(self, *, thorough: bool = True) -> Purged:
        """Remove all that has expired or is over a limit.

        Args:
            thorough: Whether to look also at sessions that may be a little over a limit, and at streams that should
                hold nothing any more.
        """
        kept_by = await self._chunks.read(lambda c: policies.everyone(c, self._namespace))
        for policy in kept_by:
            await self._expire_idle(policy)
        removed = await self._expired_sessions()
        events = await self._expired_events(self._values(), thorough=thorough)
        for policy in kept_by:
            events += await self._expired_events(self._values_of(policy), thorough=thorough, of_tenant=True)
        events += await self._over_limits(kept_by) if thorough else 0
        streams = 0
        if self._event_ttl is not None:
            streams = await self._all_audited(removal.remove_empty_streams, "stream forgotten")
        state = await self._all_audited(removal.remove_old_state, "state expired")
        for forget in (removal.remove_deleted_state, removal.remove_old_writers, audit.forget):
            await self._all(partial(self._forgotten, forget))
        for node_id in await self._chunks.read(lambda c: nodes.old(c, self._values())):
            await self.node(node_id, if_old=True)
        return removed.plus(Purged(streams=streams, events=events, state=state))

    def _values(self) -> dict[str, Any]:
        stream_ttl = None if self._event_ttl is None else 2 * self._event_ttl
        return {**self._common(), "stream_ttl": stream_ttl, "forget_after": FORGET_AFTER}

    def _values_of(self, policy: Policy) -> dict[str, Any]:
        """The same, as a policy has it."""
        idle_for = None if policy.session_ttl is None else policy.session_ttl + self._touch_interval
        return {**self._values(), "of_tenant": policy.tenant, "idle_for": idle_for, "event_ttl": policy.event_ttl}

    def _trail(self, reason: Reason, by: str | None = None, **values: Any) -> Trail:
        return Trail(reason, by or self._by, {**self._values(), **values})

    async def _all_audited(self, remove: Callable[[sa.Connection, Trail], int], reason: Reason) -> int:
        """Remove until a chunk is not full, and say how much it was."""
        return await self._all(lambda limit, c: remove(c, self._trail(reason, limit=limit)), atomic=True)

    def _forgotten(self, forget: Callable[..., int], limit: int, connection: sa.Connection) -> int:
        return forget(connection, {**self._values(), "limit": limit})

    async def _all(self, remove: Callable[[int, sa.Connection], int], *, atomic: bool = False) -> int:
        total = 0
        while True:
            size = self._chunks.size
            removed = await self._chunks.write(partial(remove, size), atomic=atomic)
            total += removed
            if removed < size:
                return total

    async def _expired_sessions(self) -> Purged:
        removed = Purged()
        while keys := await self._chunks.read(lambda c: removal.expired_sessions(c, self._common())):
            removed = removed.plus(await self.sessions(keys, "session expired"))
        return removed

    async def _expire_idle(self, policy: Policy) -> None:
        """Make the sessions expire that have not been used for longer than a policy says."""
        if policy.session_ttl is not None:
            values = self._values_of(policy)
            await self._all(lambda limit, c: policies.expire(c, {**values, "limit": limit}))

    async def _expired_events(self, values: dict[str, Any], *, thorough: bool, of_tenant: bool = False) -> int:
        removed = 0
        after: Aged | None = retention.OLDEST
        while after is not None and values["event_ttl"] is not None:
            aged = partial(retention.aged_streams, common=values, after=after, thorough=thorough, of_tenant=of_tenant)
            cuts, last = await self._chunks.read(aged)
            removed += await self.cut(cuts, "events expired")
            if not any(cut.through - cut.first >= HEAD - 1 for cut in cuts):
                after = last
        return removed

    async def cut(self, cuts: Sequence[Cut], reason: Reason, by: str | None = None) -> int:
        """Remove the beginnings of streams."""
        removed = 0
        for chunk in cutting.chunks(cuts, lambda: self._chunks.size):
            trail = self._trail(reason, by)
            removed += await self._chunks.write(partial(cutting.remove, cuts=chunk, trail=trail))
        return removed

    async def _over_limits(self, kept_by: Sequence[Policy]) -> int:
        removed = 0
        async for cuts in self._cuts_over_limits(kept_by):
            removed += await self.cut(cuts, "limit")
        return removed

    async def _cuts_over_limits(self, kept_by: Sequence[Policy]) -> AsyncGenerator[list[Cut], None]:
        if self._limits.any:
            async for key in self._keys(retention.session_keys, self._common()):
                yield await self._chunks.read(partial(self._over, key, self._limits))
        for policy in kept_by:
            limits = Limits(None, None, policy.max_events, None)
            if limits.any:
                async for key in self._keys(policies.session_keys, self._values_of(policy)):
                    yield await self._chunks.read(partial(self._over, key, limits))

    async def _keys(self, page: Callable[..., list[str]], values: dict[str, Any]) -> AsyncGenerator[str, None]:
        """All session keys, of which a page follows that after which it is asked for."""
        after = ""
        while keys := await self._chunks.read(
            partial(page, values={**values, "after": after, "limit": SESSIONS_AT_A_TIME})
        ):
            for key in keys:
                yield key
            after = keys[-1]

    async def foreseen(self) -> Purged:
        """What `everything` would remove."""
        values = self._values()
        total = await self._chunks.read(lambda c: foresight.count(c, values))
        counted: dict[tuple[str, str], int] = {}
        kept_by = await self._chunks.read(lambda c: policies.everyone(c, self._namespace))
        async for cuts in self._cuts_over_limits(kept_by):
            for cut in cuts:
                stream = (cut.session_key, cut.stream_key)
                count = partial(foresight.count_cut, cut=cut, counted=counted.get(stream, 0), values=values)
                total = total.plus(Purged(events=await self._chunks.read(count)))
                counted[stream] = max(cut.through, counted.get(stream, 0))
        return total

    def _over(self, session_key: str, limits: Limits, connection: sa.Connection) -> list[Cut]:
        return retention.over_limits(connection, session_key, limits)

    async def _trim_once(self, session_key: str) -> None:
        over = partial(self._over, session_key, self._limits)
        cuts = await once(self._database, over, atomic=False, writes=False)
        for chunk in cutting.chunks(cuts, lambda: _TRIMMED):
            remove = partial(cutting.remove, cuts=chunk, trail=self._trail("limit", "append"))
            await once(self._database, remove, atomic=True, writes=True)

    async def node(self, node_id: str, *, if_old: bool = False) -> None:
        """Remove a node's lease, and then, when nobody sends to it any more, its inbox."""
        remove = partial(nodes.remove, node_id=node_id, common=self._values(), if_old=if_old)
        if await self._chunks.write(remove, atomic=False):
            inbox = identity.session_key(self._namespace, identity.inbox_of(node_id))
            await self.sessions([inbox], "node forgotten")

    async def sessions(self, keys: Sequence[str], reason: Reason, by: str | None = None) -> Purged:
        """Remove sessions and all that belongs to them; where they are to have expired, those that still have."""
        total, if_expired = Purged(), reason == "session expired"
        while keys:
            trail = self._trail(reason, by)
            remove = partial(removal.remove_sessions, keys=keys, if_expired=if_expired, trail=trail)
            removed, done = await self._chunks.write(partial(remove, limit=self._chunks.size))
            total, keys = total.plus(removed), keys[done:]
        return total

    async def session_events(self, session_key: str) -> Purged:
        """Remove the streams and events of a session."""
        total, is_all = Purged(), False
        while not is_all:
            trail = self._trail("deleted", CALL)
            remove = partial(removal.remove_contents, session_key=session_key, trail=trail)
            removed, is_all = await self._chunks.write(partial(remove, limit=self._chunks.size))
            total = total.plus(removed)
        return total
