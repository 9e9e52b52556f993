"""Records are written only where nothing has changed since they were looked at; they expire as all else does."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import pytest

from mcp_persist_sa import open_store
from mcp_persist_sa.backends.redis import outlines
from mcp_persist_sa.identity import session_key
from mcp_persist_sa.records import Parcel
from mcp_persist_sa.replacing import News
from tests.contract.support import messages
from tests.moving.support import contents, fill_all_kinds, key_of
from tests.servers.redis import RedisServer


async def test_what_was_changed_meanwhile_is_looked_at_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(server.dsn, namespace="other") as store:
        await store.append("session", "1", "a")
        await store.append("session", "1", "b")
        records = await contents(store, "session")
    looked: list[int] = []
    async with open_store(server.dsn) as store:
        key = key_of(store, "session")

        class Slow(News):
            """In the first moment between looking and writing, somebody else writes."""

            def __init__(self, *given: Any) -> None:
                super().__init__(*given)
                looked.append(len(self.events))
                if len(looked) == 1:
                    client: Any = server.client()
                    with closing(client):
                        client.hset(f"{{mcp:{key}}}:t", "=1", "x" * 16)

        monkeypatch.setattr(outlines, "News", Slow)
        assert await store.backend.write_parcels([Parcel(key, tuple(records))]) == [None]
        assert looked == [2, 2]
        assert messages(await store.read("session", stream_id="1")) == ["a", "b"]


async def test_parcels_of_one_session_may_come_together(server: RedisServer) -> None:
    async with open_store(server.dsn) as source, open_store(server.dsn, namespace="other") as target:
        await fill_all_kinds(source)
        records = await contents(source, "session")
        key = key_of(target, "session")
        parcels = [Parcel(key, tuple(records[:3])), Parcel(key, tuple(records[3:]))]
        assert await target.backend.write_parcels(parcels) == [None, None]
        assert await contents(target, "session") == records
        again = await asyncio.gather(*(target.backend.write_parcels(parcels) for _ in range(5)))
        assert again == [[None, None]] * 5
        assert await contents(target, "session") == records


async def test_what_was_copied_expires_by_itself(server: RedisServer) -> None:
    async with open_store(server.dsn) as source, open_store(server.dsn, namespace="other") as target:
        await fill_all_kinds(source)
        await source.state("handle").set("a", 1)
        for name in ("session", "handle"):
            parcel = Parcel(key_of(target, name), tuple(await contents(source, name)))
            assert await target.backend.write_parcels([parcel]) == [None]
    client: Any = server.client()
    with closing(client):
        for name in ("session", "handle"):
            keys = client.keys(f"*{session_key('other', name)}*")
            assert keys
            assert [key for key in keys if client.ttl(key) <= 0] == []
