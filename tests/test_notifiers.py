"""Whoever waits for a hint gets it, and is not kept from ending."""

from __future__ import annotations

import asyncio

import pytest

from mcp_persist_sa import open_store
from mcp_persist_sa.notifiers.fanout import FanOut
from mcp_persist_sa.protocols import Hint


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancellation_that_comes_together_with_a_hint_is_not_lost(steps: int) -> None:
    notifier = FanOut(3600, "local")

    async def wait() -> None:
        with notifier.listen("session") as waiter:
            while True:
                await waiter.wait(None)

    waiting = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    notifier.notify({Hint("session")})
    for _ in range(steps):
        await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait({waiting}, timeout=20)
    assert done
    assert waiting.cancelled()


async def test_a_notifier_that_fails_costs_no_event_and_doubles_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: FanOut, hints: set[Hint]) -> None:
        raise RuntimeError(f"{len(hints)} not woken")

    monkeypatch.setattr(FanOut, "notify", fail)
    async with open_store("sqlite://") as store:
        ids = await asyncio.gather(*(store.append("session", "1", str(n)) for n in range(20)))
        events = (await store.read("session", stream_id="1")).events
    assert [event.event_id for event in events] == ids
    assert "1 not woken" in caplog.text
