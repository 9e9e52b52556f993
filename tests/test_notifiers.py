"""Whoever waits for a hint gets it, and is not kept from ending."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from mcp_persist_sa import open_store
from mcp_persist_sa.hints import Hint
from mcp_persist_sa.notifiers.fanout import FanOut
from mcp_persist_sa.notifiers.sqlite import Changes
from mcp_persist_sa.notifiers.unsent import hints_in


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


def _insert(file: sqlite3.Connection, rowid: int, sequence: int) -> None:
    with file:
        file.execute(
            "INSERT INTO mcp_events (rowid, session_key, stream_key, sequence, nonce, final, size, created_at) "
            "VALUES (?, 'session', 'stream', ?, ?, false, 1, 0)",
            (rowid, sequence, f"nonce {sequence}"),
        )


async def test_row_numbers_of_sqlite_that_are_given_again_are_not_taken_for_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    async with open_store(f"sqlite:///{path}"):
        engine = sa.create_engine(f"sqlite:///{path}")
        with closing(sqlite3.connect(path)) as file, engine.connect() as connection:
            changes = Changes()
            _insert(file, 1, 1)
            changes.begin(connection)
            _insert(file, 2, 2)
            _insert(file, 3, 3)
            assert changes.wait(connection, lambda: True) == {Hint("session", "stream", 3)}
            with file:
                file.execute("DELETE FROM mcp_events WHERE rowid > 1")
            _insert(file, 2, 4)
            _insert(file, 3, 5)
            assert changes.wait(connection, lambda: True) is None
            _insert(file, 4, 6)
            assert changes.wait(connection, lambda: True) == {Hint("session", "stream", 6)}
            with file:
                file.execute("UPDATE mcp_events SET size = 2")
            assert changes.wait(connection, lambda: True) == set()
            assert changes.seen
        engine.dispose()


def test_what_strangers_send_to_the_channel_is_no_hint() -> None:
    hints = "a b 1\n\n2\na b c\na b -1\na b ٣\nx y 99999999999999999999999\na  0\nc d 2"
    assert hints_in(hints) == {Hint("a", "b", 1), Hint("a"), Hint("c", "d", 2)}
