"""How the store is, and its figures: read for all who watch together, and for nobody while nobody does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

from mcp_persist_sa.dashboard.pace import Pace
from mcp_persist_sa.dashboard.pages import JSON, News, milliseconds, refusal
from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.models import Health
from mcp_persist_sa.oversight import Stats
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks."""

_UNEXPECTED = "An error that was not expected. The dashboard has logged it, and tries again."
_SHARE = 20
_PATIENCE = 2.0
_REMEMBERED = 180


class Board:
    """Looks at a store while somebody watches."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._latest: dict[str, JSON] = {}
        self._changed = asyncio.Event()
        self._watchers = Counter[str]()
        self._watched: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._history: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)
        self._reachable: bool | None = None
        self._since = 0

    async def run(self) -> None:
        """Look, until cancelled.

        A store that takes long to count is asked less often: it counts for a twentieth of the time at most.
        """
        condition, figures = Pace(least=INTERVAL, share=0), Pace(least=INTERVAL, share=_SHARE)
        await asyncio.gather(
            self._watch("condition", self._look_at_condition, condition),
            self._watch("figures", self._look_at_figures, figures),
        )

    async def follow(self, *names: str) -> AsyncGenerator[News, None]:
        """Yield what is known, and then what is new, of the `condition` and the `figures`, or one of them."""
        seen: dict[str, JSON] = {}
        with self._watching(names):
            while True:
                changed = self._changed
                for name in names:
                    data = self._latest.get(name)
                    if data is not None and seen.get(name) is not data:
                        seen[name] = data
                        # By this a page sets its clock, so it is the time of the telling.
                        yield News(name, {**data, "now": _now()})
                await changed.wait()

    @contextmanager
    def _watching(self, names: Sequence[str]) -> Generator[None, None, None]:
        self._watchers.update(names)
        for name in names:
            self._watched[name].set()
        try:
            yield
        finally:
            self._watchers.subtract(names)
            for name in names:
                if not self._watchers[name]:
                    self._watched[name].clear()

    async def _watch(self, name: str, look: Callable[[], Awaitable[JSON]], pace: Pace) -> None:
        while await self._watched[name].wait():
            try:
                with pace.look():
                    self._latest[name] = await look()
            except PersistError as error:
                self._latest[name] = refusal(error)
            except Exception:
                logger.exception("The %(name)s cannot be told; it is tried again", {"name": name})
                self._latest[name] = {"error": _UNEXPECTED}
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            await pace.rest()

    async def _look_at_condition(self) -> JSON:
        health = await self._store.health(timeout=_PATIENCE)
        if health.reachable != self._reachable:
            self._reachable, self._since = health.reachable, _now()
        return {**_condition(health), "since": self._since}

    async def _look_at_figures(self) -> JSON:
        stats = await self._store.stats()
        self._history.append((_now(), stats.events))
        return {**_figures(stats), "history": [*self._history]}


def _now() -> int:
    return int(time.time() * 1000)


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
