"""When things are removed: by `purge`, when a session is deleted, and when a stream or session outgrows its limits."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from mcp_persist_sa import identity
from mcp_persist_sa.backends.sql import foresight, nodes, removal, retention
from mcp_persist_sa.backends.sql.retention import CHUNK, Cut, Limits
from mcp_persist_sa.database import Database, Failure, once, read, write
from mcp_persist_sa.models import Purged
from mcp_persist_sa.options import Options
from mcp_persist_sa.protocols import Append

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FORGET_AFTER = timedelta(hours=1)
_MAX_GROWN = 100_000


class Purge:
    """Removes what need not be kept, in chunks."""

    def __init__(self, database: Database, options: Options, common: Callable[[], dict[str, Any]]) -> None:
        self._database = database
        self._common = common
        self._namespace = options.namespace
        self._event_ttl = options.span("event_ttl")
        self._limits = Limits(
            options.max_events_per_stream,
            options.max_bytes_per_stream,
            options.max_events_per_session,
            options.max_bytes_per_session,
        )
        self._grown: dict[str, tuple[int, int]] = {}

    async def _read(self, work: Callable[[sa.Connection], T]) -> T:
        return await read(self._database, work)

    async def _write(self, work: Callable[[sa.Connection], T], *, atomic: bool = True) -> T:
        return await write(self._database, work, atomic=atomic)

    async def everything(self) -> Purged:
        """Remove all that has expired or is over a limit."""
        removed = await self._expired_sessions()
        removed = removed.plus(Purged(events=await self._expired_events() + await self._over_limits()))
        streams = await self._in_chunks(removal.remove_empty_streams) if self._event_ttl is not None else 0
        state = await self._in_chunks(removal.remove_old_state)
        await self._in_chunks(removal.remove_deleted_state)
        await self._write(lambda c: removal.remove_old_writers(c, self._values()), atomic=False)
        for node_id in await self._read(lambda c: nodes.old(c, self._values())):
            await self.node(node_id, if_old=True)
        return removed.plus(Purged(streams=streams, state=state))

    def _values(self) -> dict[str, Any]:
        stream_ttl = None if self._event_ttl is None else 2 * self._event_ttl
        return {**self._common(), "stream_ttl": stream_ttl, "forget_after": _FORGET_AFTER}

    async def _in_chunks(self, remove: Callable[[sa.Connection, dict[str, Any]], int]) -> int:
        total = 0
        while True:
            removed = await self._write(lambda c: remove(c, self._values()), atomic=False)
            total += removed
            if removed < CHUNK:
                return total

    async def _expired_sessions(self) -> Purged:
        removed = Purged()
        while keys := await self._read(lambda c: removal.expired_sessions(c, self._common())):
            for key in keys:
                removed = removed.plus(await self.session(key, if_expired=True))
        return removed

    async def _expired_events(self) -> int:
        removed = 0
        after: tuple[str, str] | None = ("", "")
        while after is not None and self._event_ttl is not None:
            cuts, last = await self._read(partial(self._aged, after=after))
            removed += await self.cut(cuts)
            if not any(cut.through - cut.first >= CHUNK - 1 for cut in cuts):
                after = last
        return removed

    def _aged(self, connection: sa.Connection, after: tuple[str, str]) -> tuple[list[Cut], tuple[str, str] | None]:
        return retention.aged_streams(connection, self._common(), after)

    async def cut(self, cuts: Sequence[Cut]) -> int:
        """Remove the beginnings of streams."""
        removed = 0
        for chunk in retention.chunks(cuts):
            removed += await self._write(partial(retention.remove, cuts=chunk))
        return removed

    async def _over_limits(self) -> int:
        removed = 0
        async for cuts in self._cuts_over_limits():
            removed += await self.cut(cuts)
        return removed

    async def _cuts_over_limits(self) -> AsyncGenerator[list[Cut], None]:
        after = ""
        while self._limits.any:
            keys = await self._read(partial(self._session_keys, after=after))
            if not keys:
                break
            for key in keys:
                yield await self._read(partial(self._over, key))
            after = keys[-1]

    async def foreseen(self) -> Purged:
        """What `everything` would remove."""
        values = self._values()
        total = await self._read(lambda c: foresight.count(c, values))
        async for cuts in self._cuts_over_limits():
            counts = [await self._read(partial(foresight.count_cut, cut=cut, values=values)) for cut in cuts]
            total = total.plus(Purged(events=sum(counts)))
        return total

    def _session_keys(self, connection: sa.Connection, after: str) -> list[str]:
        return retention.session_keys(connection, self._common(), after)

    def _over(self, session_key: str, connection: sa.Connection) -> list[Cut]:
        return retention.over_limits(connection, session_key, self._limits)

    async def trim_grown(self, batch: Sequence[Append]) -> None:
        """After events were stored: remove what is over a limit in sessions that have grown by a tenth of it.

        The events are stored whatever becomes of this, so it is tried once, and again when the session grows further.
        """
        if not self._limits.any:
            return
        try:
            for session_key in self._note_growth(batch):
                await self._trim_once(session_key)
        except Failure as failure:
            logger.warning("Events over a limit were not removed; it is tried again: %s", failure)

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

    async def _trim_once(self, session_key: str) -> None:
        cuts = await once(self._database, partial(self._over, session_key), atomic=False, writes=False)
        for chunk in retention.chunks(cuts):
            await once(self._database, partial(retention.remove, cuts=chunk), atomic=True, writes=True)
        self._grown.pop(session_key, None)

    async def node(self, node_id: str, *, if_old: bool = False) -> None:
        """Remove a node's lease, and then, when nobody sends to it any more, its inbox."""
        remove = partial(nodes.remove, node_id=node_id, common=self._values(), if_old=if_old)
        if await self._write(remove, atomic=False):
            await self.session(identity.session_key(self._namespace, identity.inbox_of(node_id)))

    async def session(self, session_key: str, *, if_expired: bool = False) -> Purged:
        """Remove a session and all that belongs to it, its events in chunks before."""
        events = await self._events_of(session_key, if_expired=if_expired)
        work = partial(removal.remove_session, session_key=session_key, if_expired=if_expired, common=self._common())
        return (await self._write(work)).plus(Purged(events=events))

    async def session_events(self, session_key: str) -> Purged:
        """Remove the streams and events of a session."""
        events = await self._events_of(session_key)
        streams = await self._write(lambda c: removal.remove_streams(c, session_key))
        return streams.plus(Purged(events=events))

    async def _events_of(self, session_key: str, *, if_expired: bool = False) -> int:
        total = 0
        remove = partial(
            removal.remove_some_events, session_key=session_key, if_expired=if_expired, common=self._common()
        )
        while True:
            removed = await self._write(remove, atomic=False)
            total += removed
            if removed < CHUNK:
                return total
