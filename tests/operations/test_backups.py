"""Backups as docs/deploying.md makes them: what is restored is whole, and what it lacks is said."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from mcp_persist_sa import HistoryLost, Store, UnknownEvent, open_store
from tests.contract.support import fill, messages
from tests.pages import DOCS, block, shell
from tests.servers import PostgresServer
from tests.servers.binaries import find_binaries
from tests.servers.redis import RedisServer, binary_of
from tests.servers.spawning import poll

PAGE = DOCS / "deploying.md"


class Seen:
    """What clients saw before a backup, and between it and the loss of the database."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.since: list[str] = []
        self.alone: list[str] = []

    async def first(self, store: Store) -> None:
        await store.sessions.create("session", owner="alice")
        self.before = await fill(store, "session", "1", 3)

    async def then(self, store: Store) -> None:
        self.since = await fill(store, "session", "1", 3)
        self.alone = await fill(store, "session", "2", 2)

    async def check(self, store: Store) -> None:
        """Of the restored store."""
        assert (await store.sessions.get("session")).owner == "alice"
        assert messages(await store.read("session", after=self.before[0])) == ["2", "3"]
        new = [await store.append("session", "1", f"new {number}") for number in range(4)]
        assert not set(new) & {*self.before, *self.since}
        # The numbers are the same: what tells them apart is the nonce.
        assert [event.split(".")[1] for event in new[:3]] == [event.split(".")[1] for event in self.since]
        for event_id in self.since:
            with pytest.raises(HistoryLost):
                await store.read("session", after=event_id)
        for event_id in self.alone:
            with pytest.raises((UnknownEvent, HistoryLost)):
                await store.read("session", after=event_id)
        assert messages(await store.read("session", after=self.before[2])) == [f"new {n}" for n in range(4)]


async def said(script: str, folder: Path, programs: Path | None = None, **variables: str) -> None:
    given = () if programs is None else (programs,)
    done = await asyncio.to_thread(shell, script, folder, *given, **variables)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_of_a_sqlite_file_in_use(tmp_path: Path) -> None:
    seen = Seen()
    async with open_store(f"sqlite:///{tmp_path / 'server.db'}") as store:
        await seen.first(store)
        await said(block(PAGE, "sh", "VACUUM"), tmp_path)
        await seen.then(store)
    for name in ("server.db", "server.db-wal", "server.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "backup.db").rename(tmp_path / "server.db")
    async with open_store(f"sqlite:///{tmp_path / 'server.db'}") as store:
        await seen.check(store)


async def test_of_postgres(tmp_path: Path, own_postgres: PostgresServer) -> None:
    seen, dsn = Seen(), own_postgres.create_database("shop")
    programs = find_binaries().folder
    async with open_store(dsn, migrate=True) as store:
        await seen.first(store)
        await said(block(PAGE, "sh", "pg_dump"), tmp_path, programs, DATABASE=dsn)
        await seen.then(store)
    await said(block(PAGE, "sh", "pg_restore"), tmp_path, programs, DATABASE=dsn)
    async with open_store(dsn) as store:
        await seen.check(store)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_of_redis(tmp_path: Path, kind: str) -> None:
    seen, copy = Seen(), tmp_path / "dump.rdb"
    with RedisServer(binary_of(kind), {"appendonly": "yes"}) as server:
        async with open_store(server.dsn) as store:
            await seen.first(store)
            with closing(server.client()) as client:
                client.bgsave()
                poll(lambda: _is_saved(client), "the snapshot is written", timeout=30)
            shutil.copyfile(server.folder / "dump.rdb", copy)
            await seen.then(store)
    restored = RedisServer(binary_of(kind), {"appendonly": "no"})
    shutil.copyfile(copy, restored.folder / "dump.rdb")
    with restored:
        with closing(restored.client()) as client:
            client.config_set("appendonly", "yes")
        async with open_store(restored.dsn) as store:
            await seen.check(store)


def _is_saved(client: redis.Redis) -> bool:
    found: Any = client.info("persistence")
    return not found["rdb_bgsave_in_progress"]
