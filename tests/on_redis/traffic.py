"""Sessions that are written to and followed while their server takes back what it acknowledged."""

from __future__ import annotations

import asyncio

from mcp_persist_sa import HistoryLost, Store, UnknownEvent
from tests.contract.support import PATIENCE
from tests.on_redis.conftest import until

SESSIONS = 20


class Traffic:
    """A session that is written to and followed, until it is told to stop.

    Attributes:
        ids: The event ids that were acknowledged.
    """

    def __init__(self, store: Store, session: str) -> None:
        self.ids: list[str] = []
        self.session = session
        self._store = store
        self._stopped = False
        self._tail = asyncio.ensure_future(_collect(store, session))
        self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        while not self._stopped:
            self.ids.append(await self._store.append(self.session, "1", str(len(self.ids))))
        self.ids.append(await self._store.append(self.session, "1", "end", final=True))

    async def ended(self) -> int:
        """What was lost is said to be, and whoever follows was told the end, or that; how many were lost."""
        self._stopped = True
        await asyncio.wait_for(self._writing, PATIENCE)
        stored = await _all_of(self._store, self.session)
        assert [event_id for event_id in self.ids if event_id in stored] == stored
        lost = [event_id for event_id in self.ids if event_id not in stored]
        assert all([await is_lost(self._store, self.session, event_id) for event_id in lost])
        assert (await asyncio.wait_for(self._tail, PATIENCE))[-1] in ("end", "HistoryLost")
        return len(lost)


async def progress(all_of_them: list[Traffic], count: int = 20) -> None:
    """Wait until each session has so many events more."""
    goals = [(each, len(each.ids) + count) for each in all_of_them]
    await until(lambda: all(len(each.ids) > goal for each, goal in goals))


async def check(all_of_them: list[Traffic]) -> int:
    """End the traffic: nobody hangs, and no id was given twice; how many events were lost."""
    lost = await asyncio.gather(*(each.ended() for each in all_of_them))
    given = [event_id for each in all_of_them for event_id in each.ids]
    assert len(set(given)) == len(given)
    return sum(lost)


async def is_lost(store: Store, session: str, event_id: str) -> bool:
    """Whether who comes with this event id is told that history was lost."""
    try:
        await store.read(session, after=event_id)
    except (HistoryLost, UnknownEvent):
        return True
    return False


async def _all_of(store: Store, session: str) -> list[str]:
    page = await store.read(session, stream_id="1")
    found = [event.event_id for event in page.events]
    while page.more:
        page = await store.read(session, after=page.event_id)
        found += [event.event_id for event in page.events]
    return found


async def _collect(store: Store, session: str) -> list[str | None]:
    seen: list[str | None] = []
    try:
        async for item in store.tail(session, "1"):
            seen.append(getattr(item, "message", None))  # noqa: PERF401 - what came before an error counts
    except HistoryLost:
        seen.append("HistoryLost")
    return seen
