"""What there is, in figures: each session counts what it holds."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from heapq import nsmallest
from typing import Any, NamedTuple

from mcp_persist_sa.backends.redis.checking import facts_of
from mcp_persist_sa.backends.redis.keys import moment, span
from mcp_persist_sa.backends.redis.retention import Retention
from mcp_persist_sa.backends.redis.scripts import FIGURES
from mcp_persist_sa.oversight import Holding, Rate, Stats

_HOW_MANY = 5
_AT_ONCE = 100
_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


class _Figures(NamedTuple):
    session_key: str
    session_id: str | None
    created_at: datetime | None
    is_open: bool
    is_expired: bool
    streams: int
    unfinished: int
    events: int
    size: int
    oldest_stream: datetime | None
    last_minute: Rate
    last_hour: Rate

    @property
    def rank(self) -> tuple[int, str]:
        """The largest first."""
        return -self.events, self.session_key


class Figures(Retention):
    """Whoever counts. Events are counted by the lengths of their lists, of which there are many times fewer."""

    async def stats(self, *, exact: bool) -> Stats:
        """See `OversightBackend`."""
        all_of = [figures async for figures in self._figures(exact=exact)]
        recorded = [each for each in all_of if each.session_id is not None]
        largest = nsmallest(_HOW_MANY, (each for each in all_of if each.streams), key=lambda each: each.rank)
        return Stats(
            sessions=len(recorded),
            sessions_open=sum(each.is_open for each in recorded),
            sessions_expired=sum(each.is_expired for each in recorded),
            streams=sum(each.streams for each in all_of),
            streams_unfinished=sum(each.unfinished for each in all_of),
            events=sum(each.events for each in all_of),
            message_bytes=sum(each.size for each in all_of) if exact else None,
            disk_bytes=await self._memory(),
            oldest_session=min((each.created_at for each in recorded if each.created_at), default=None),
            oldest_stream=min((each.oldest_stream for each in all_of if each.oldest_stream), default=None),
            last_minute=_sum([each.last_minute for each in all_of]),
            last_hour=_sum([each.last_hour for each in all_of]),
            largest=tuple(Holding(each.session_id, each.streams, each.events) for each in largest),
            nodes=sum((await self.nodes()).values()),
        )

    async def _figures(self, *, exact: bool) -> AsyncIterator[_Figures]:
        async for chunk in self._session_keys():
            for first in range(0, len(chunk), _AT_ONCE):
                keys = chunk[first : first + _AT_ONCE]
                calls = [self._call(FIGURES, key, span(_MINUTE), span(_HOUR), int(exact)) for key in keys]
                for key, answer in zip(keys, await self._server.read(*calls), strict=True):
                    yield _figures_of(key, answer)

    async def _memory(self) -> int | None:
        """What the servers hold in memory; None where they do not say."""
        found = [facts_of(info).get("used_memory", "") for (info,) in await self._server.ask(["INFO", "memory"])]
        return sum(map(int, found)) if all(re.fullmatch(r"\d+", each) for each in found) else None


def _figures_of(session_key: str, answer: list[Any]) -> _Figures:
    session_id, created, is_open, is_expired, streams, unfinished, events, size, oldest, minute, hour = answer
    return _Figures(
        session_key=session_key,
        session_id=session_id[1:].decode() if session_id else None,
        created_at=moment(created) if created else None,
        is_open=bool(is_open),
        is_expired=bool(is_expired),
        streams=streams,
        unfinished=unfinished,
        events=events,
        size=size,
        oldest_stream=moment(oldest) if oldest else None,
        last_minute=Rate(*minute),
        last_hour=Rate(*hour),
    )


def _sum(rates: list[Rate]) -> Rate:
    return Rate(*(sum(each) for each in zip(*rates, strict=True))) if rates else Rate(0, 0, 0)
