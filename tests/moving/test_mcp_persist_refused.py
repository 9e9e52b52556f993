"""What of mcp-persist cannot be imported is said by session, stops no other, and nothing is changed there."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from mcp_persist_sa import Store
from mcp_persist_sa.operations import import_mcp_persist
from tests.contract.support import Clock, messages
from tests.moving.mcp_persist import ANSWER, ONE, OTHER, Old
from tests.moving.support import contents, key_of, keys

SPOILED = [("handshake", "[1]"), ("owner", '"alice"'), ("created_at", 1e20), ("last_seen_at", -1e12)]


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[Store]:
    """To import into."""
    async with Store("sqlite://", clock=clock) as store:
        yield store


@pytest.mark.parametrize(("column", "value"), SPOILED)
async def test_a_session_that_cannot_be_read_stops_no_other(old: Old, store: Store, column: str, value: object) -> None:
    await old.create()
    await old.add_session(ONE, **{column: value})
    await old.add_session(OTHER)
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.seen, moved.sessions, [*moved.failures]) == (2, 1, [ONE])
    assert await keys(store) == {key_of(store, OTHER)}


@pytest.mark.parametrize("handshake", ["{", "[" * 100_000])
async def test_text_that_is_no_json_stops_no_other(tmp_path: Path, store: Store, handshake: str) -> None:
    old = Old("sqlite", f"sqlite:///{tmp_path / 'old.db'}")
    await old.create()
    await old.add_session(ONE, handshake=handshake)
    await old.add_session(OTHER)
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.sessions, [*moved.failures]) == (1, [ONE])


async def test_an_event_that_is_too_deep_stops_no_other(old: Old, store: Store) -> None:
    await old.create()
    await old.add(1, f"{ONE}:7", "[" * 100_000)
    await old.add(2, f"{OTHER}:7", ANSWER)
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.events, [*moved.failures]) == (1, [ONE])


async def test_an_event_of_no_moment_stops_no_other(old: Old, store: Store) -> None:
    await old.create()
    await old.add(1, f"{ONE}:7", ANSWER, created_at=1e20)
    await old.add(2, f"{OTHER}:7", ANSWER)
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.seen, moved.events, [*moved.failures]) == (2, 1, [ONE])


async def test_sessions_of_two_tenants_under_one_id_are_refused(old: Old, store: Store) -> None:
    await old.create()
    # The rows of the last id stand on both sides of the end of a page.
    names = [*(f"0123456789abcdef{n:04d}" for n in range(199)), OTHER]
    for name in names:
        await old.add_session(name)
    await old.add_session(OTHER, tenant_id="b")
    await old.add(1, f"{OTHER}:7", ANSWER)
    await old.add(2, f"{OTHER}:8", ANSWER, tenant_id="b")
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.seen, moved.sessions, moved.events, [*moved.failures]) == (200, 199, 0, [OTHER])
    assert "tenant" in moved.failures[OTHER]
    assert await contents(store, OTHER) == []


async def test_events_of_another_tenant_are_refused(old: Old, store: Store) -> None:
    await old.create()
    await old.add_session(ONE, tenant_id="a")
    await old.add(1, f"{ONE}:7", ANSWER, tenant_id="a")
    await old.add(2, f"{ONE}:8", ANSWER, tenant_id="b")
    await old.add(3, f"{ONE}:9", ANSWER)
    for number, tenant in enumerate("ab", 10):
        await old.add(number, f"{OTHER}:7", ANSWER, tenant_id=tenant)
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.seen, moved.events, sorted(moved.failures)) == (2, 2, sorted([ONE, OTHER]))
    assert (await store.sessions.get(ONE)).tenant == "a"
    for stream in ("7", "9"):
        assert messages(await store.read(ONE, stream_id=stream)) == [ANSWER]
    assert await contents(store, OTHER) == []


async def test_sessions_without_events_are_counted(old: Old, store: Store) -> None:
    await old.create()
    await old.add_session(ONE)
    assert (await import_mcp_persist(old.dsn, store)).seen == 1


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_nothing_is_changed_there(
    tmp_path: Path, store: Store, mode: str, writable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    path = folder / "old?.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute(f"PRAGMA journal_mode = {mode}")
    await Old("sqlite", f"sqlite:///{path}").create()
    before = path.read_bytes()
    if not writable:
        path.chmod(0o400)
        # Root may write all the same.
        monkeypatch.setattr(os, "access", lambda *_: False)
    moved = await import_mcp_persist(f"sqlite:///{folder}/old%3F.db", store)
    assert moved.failures == {}
    assert path.read_bytes() == before
    assert sorted(each.name for each in folder.iterdir()) == [path.name]
