"""How the store is, and its figures: read for all who watch together, and for nobody while nobody does."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from mcp_persist_sa.dashboard.pace import Pace
from mcp_persist_sa.dashboard.pages import JSON, News, milliseconds, refusal
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.models import Health
from mcp_persist_sa.oversight import Stats
from mcp_persist_sa.store import Store

INTERVAL = 2.0
"""Seconds between two looks."""

_SHARE = 20
_PATIENCE = 2.0
_REMEMBERED = 180


class Board:
    """Looks at a store while somebody watches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, News] = {}
        self._changed = asyncio.Event()
        self._watchers = 0
        self._watched = asyncio.Event()
        self._history: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._reachable: bool | None = None
        self._since = 0.0

    async def run(self) -> None:
        """Look, until cancelled."""
        await asyncio.gather(self._watch_condition(), self._watch_figures())

    async def follow(self) -> AsyncGenerator[News, None]:
        """Yield what is known, and then what is new."""
        seen: dict[str, News] = {}
        self._watchers += 1
        self._watched.set()
        try:
            while True:
                changed = self._changed
                for name, news in [*self._latest.items()]:
                    if seen.get(name) is not news:
                        seen[name] = news
                        yield news
                await changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    def _publish(self, name: str, data: JSON) -> None:
        self._latest[name] = News(name, {**data, "now": int(time.time() * 1000)})
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _watch_condition(self) -> None:
        while await self._watched.wait():
            health = await self._store.health(timeout=_PATIENCE)
            if health.reachable != self._reachable:
                self._reachable, self._since = health.reachable, time.time()
            self._publish("condition", {**_condition(health), "since": int(self._since * 1000)})
            await asyncio.sleep(INTERVAL)

    async def _watch_figures(self) -> None:
        """A store that takes long to count is asked less often: it counts for a twentieth of the time at most."""
        pace = Pace(least=INTERVAL, share=_SHARE)
        while await self._watched.wait():
            try:
                with pace.look():
                    stats = await self._store.stats()
            except PersistError as error:
                self._publish("figures", refusal(error))
            else:
                self._history.append((int(time.time() * 1000), stats.events))
                self._publish("figures", {**_figures(stats), "history": [*self._history]})
            await pace.rest()


def _condition(health: Health) -> JSON:
    return {
        "reachable": health.reachable,
        "latency": health.latency,
        "error": health.error,
        "revision": health.revision,
        "mode": health.notifier.mode,
        "lag": health.notifier.lag,
        "pool": None if health.pool is None else health.pool._asdict(),
    }


def _figures(stats: Stats) -> JSON:
    return {name: _plain(value) for name, value in asdict(stats).items()} | {
        "largest": [holding._asdict() for holding in stats.largest],
        "last_minute": stats.last_minute._asdict(),
        "last_hour": stats.last_hour._asdict(),
    }


def _plain(value: Any) -> Any:
    return milliseconds(value) if isinstance(value, datetime) else value
