"""One node keeps a namespace in order; one that was frozen, and was replaced meanwhile, does nothing more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from mcp_persist_sa import Purged, open_store
from mcp_persist_sa.backends.redis import tending
from tests.contract.support import PATIENCE, Clock, fill
from tests.servers.redis import RedisServer

LEASE, PAUSE = timedelta(seconds=15), timedelta(seconds=60)
ONE, OTHER = "1" * 16, "2" * 16


async def test_of_one_that_was_slow_nothing_more_is_done(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    began, go_on, breaths = asyncio.Event(), asyncio.Event(), 0
    breathe: Any = tending._Turn.breathe  # pyright: ignore[reportPrivateUsage]

    async def breathe_slowly(self: Any) -> None:
        nonlocal breaths
        breaths += 1
        if breaths == 3:
            began.set()
            await go_on.wait()
        await breathe(self)

    monkeypatch.setattr(tending, "_RENEWAL", 0.0)
    options = {"clock": clock, "event_ttl": 60}
    async with open_store(server.dsn, **options) as slow, open_store(server.dsn, **options) as other:
        await fill(slow, "session", "1", 3000)
        clock.advance(hours=1)
        with monkeypatch.context() as slowly:
            slowly.setattr(tending._Turn, "breathe", breathe_slowly)  # pyright: ignore[reportPrivateUsage]
            working = asyncio.ensure_future(slow.backend.tend(ONE, LEASE, PAUSE))
            await asyncio.wait_for(began.wait(), PATIENCE)
        left = (await other.stats()).events
        assert 0 < left < 3000
        assert await other.backend.tend(OTHER, LEASE, PAUSE) is None
        clock.advance(seconds=15)
        assert await other.backend.tend(OTHER, LEASE, PAUSE) == Purged(streams=1, events=left)
        await fill(other, "session", "2", 500)
        clock.advance(seconds=70)
        go_on.set()
        assert await asyncio.wait_for(working, PATIENCE) is None
        assert (await other.stats()).events == 500


async def test_what_expires_by_itself_is_looked_at_once_in_an_hour(server: RedisServer) -> None:
    past = Clock()
    past.advance(days=-3650)
    async with open_store(server.dsn, clock=past) as before, open_store(server.dsn) as store:
        await fill(before, "session", "1", 3)
        assert await store.backend.tend(ONE, LEASE, PAUSE) == Purged(streams=1, events=3)
        await fill(before, "session", "1", 3)
        assert await store.backend.tend(ONE, LEASE, PAUSE) == Purged()
        assert (await store.purge()).events == 3
