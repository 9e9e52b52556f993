"""What is told of the store to all who watch: whatever goes wrong, only what they watch, and when it is told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from mcp_persist_sa import Store, open_store
from mcp_persist_sa.dashboard import board
from tests.dashboard.serving import served


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One that the dashboard opens, and looks at very often."""
    monkeypatch.setattr(board, "INTERVAL", 0.01)
    return open_store(f"sqlite:///{tmp_path / 'store.db'}", migrate=True)


class Looks:
    """Looks at a store, counted; one of them fails, or never ends."""

    def __init__(self, store: Store, name: str, monkeypatch: pytest.MonkeyPatch, **special: int) -> None:
        self._look = getattr(store, name)
        self._special = special
        self.count = 0
        monkeypatch.setattr(store, name, self)

    async def __call__(self, **options: Any) -> Any:
        self.count += 1
        if self.count == self._special.get("failing"):
            raise ZeroDivisionError("nobody has thought of this")
        if self.count == self._special.get("endless"):
            await asyncio.Event().wait()
        return await self._look(**options)


@pytest.mark.parametrize(("look", "told"), [("stats", "figures"), ("health", "condition")])
async def test_an_unexpected_error_is_said_and_ends_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, look: str, told: str
) -> None:
    Looks(store, look, monkeypatch, failing=1)
    async with served(store) as site, site.feed() as feed:
        said = await feed.until(told, lambda news: news.get("error"))
        assert "nobody has thought of this" not in str(said)
        await feed.until(told, lambda news: not news.get("error"))
    assert "ZeroDivisionError: nobody has thought of this" in caplog.text


async def test_nobody_s_figures_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(store, "stats", monkeypatch)
    async with served(store) as site:
        async with site.feed("session") as feed:
            for _ in range(5):
                await feed.until("condition")
            assert looks.count == 0
        async with site.feed() as feed:
            await feed.until("figures")
            assert looks.count > 0


async def test_a_clock_is_that_of_the_telling(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    Looks(store, "health", monkeypatch, endless=2)
    async with served(store) as site:
        async with site.feed() as feed:
            first = await feed.until("condition")
        while int(time.time() * 1000) == first["now"]:
            """It goes on."""
        async with site.feed() as feed:
            second = await feed.until("condition")
    assert second["now"] > first["now"], "of the same look"
    assert {**second, "now": None} == {**first, "now": None}
