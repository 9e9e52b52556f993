"""The connection on which other nodes are heard breaks, or hears nothing: tails lose no event, and it is said."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_persist_sa import Event, Gap, Store, upgrade
from mcp_persist_sa.models import NotifierMode
from mcp_persist_sa.notifiers import postgres
from tests.contract.support import execute
from tests.databases import Database
from tests.hunts.child_writer import SESSION
from tests.hunts.conftest import Proxied
from tests.hunts.processes import WriterProcess
from tests.hunts.support import CLIENTS, HUNT, PATIENCE, check_once, check_streams, eventually, stored_rows
from tests.servers import PgBouncer, PostgresServer

KILLS = 5 * HUNT
NEVER = 3600.0
READER = "reader"
NAMED: dict[str, Any] = {"connect_args": {"server_settings": {"application_name": READER}}}
OF_NOTIFIERS = "query LIKE 'LISTEN %' OR query LIKE 'NOTIFY %' OR query LIKE '%pg_notify%'"
WARNING = "LISTEN does not work here"


async def _mode(store: Store) -> NotifierMode:
    return (await store.health()).notifier.mode


async def _becomes(store: Store, mode: NotifierMode, reconnects: int = 0) -> None:
    async def is_so() -> bool:
        now = (await store.health()).notifier
        return now.mode == mode and now.reconnects >= reconnects

    await eventually(f"the notifier is {mode}", is_so)


def _tail(store: Store) -> asyncio.Future[list[Event | Gap]]:
    async def work() -> list[Event | Gap]:
        return [item async for item in store.tail(SESSION, "one")]

    return asyncio.ensure_future(work())


async def _kill(database: Database, which: str) -> int:
    killed = await execute(database, f"SELECT pg_terminate_backend(pid) FROM {CLIENTS} AND ({which})")
    return len(killed)


async def _killed(database: Database, which: str) -> bool:
    return await _kill(database, which) > 0


@asynccontextmanager
async def _written(through: Database) -> AsyncGenerator[Callable[[], Any], None]:
    """Another process that writes meanwhile; gives what waits until it has written some more."""
    async with WriterProcess(through, "w") as writer:
        await writer.begin()
        following = asyncio.ensure_future(writer.follow())

        async def progress() -> None:
            goal = len(writer.acknowledged) + 30
            await eventually("more is written", lambda: len(writer.acknowledged) >= goal)

        try:
            yield progress
            await writer.write_line()
            await asyncio.wait_for(following, PATIENCE)
        finally:
            following.cancel()
            await asyncio.wait({following})
        check_once(await stored_rows(through), writer.acknowledged)


async def _check(database: Database, tails: list[asyncio.Future[list[Event | Gap]]]) -> None:
    """Each tail was given all events of the stream, in order."""
    rows = await stored_rows(database)
    check_streams(rows)
    expected = [row.event_id for row in rows if row.stream_id == "one"]
    for items in await asyncio.wait_for(asyncio.gather(*tails), PATIENCE):
        assert [item.event_id for item in items if isinstance(item, Event)] == expected
        assert len(items) == len(expected)


@pytest.fixture
async def direct(new_postgres: Callable[[], str]) -> AsyncIterator[Database]:
    """A migrated Postgres database."""
    database = Database("postgres", new_postgres())
    yield database
    await database.close()


@pytest.fixture
async def pooled(direct: Database, pgbouncer: PgBouncer) -> AsyncIterator[Database]:
    """The same through PgBouncer."""
    database = Database("postgres", pgbouncer.dsn(direct.dsn))
    yield database
    await database.close()


async def test_the_listening_connection_is_killed_under_load_and_tails_lose_nothing(
    direct: Database,
) -> None:
    reader = await direct.open(poll_interval=NEVER, **NAMED)
    tails = [_tail(reader) for _ in range(3)]
    await _becomes(reader, "listening")
    times: list[float] = []
    async with _written(direct) as progress:
        for n in range(KILLS):
            await progress()
            begin = time.perf_counter()
            assert await _kill(direct, f"application_name = '{READER}' AND query LIKE 'LISTEN %'") == 1
            await _becomes(reader, "listening", reconnects=n + 1)
            times.append(time.perf_counter() - begin)
        await progress()
    await reader.append(SESSION, "one", "end", final=True)
    await _check(direct, tails)
    middle, most = statistics.median(times) * 1000, max(times) * 1000
    print(f"{KILLS} kills: heard again after {middle:.0f} ms (median), {most:.0f} ms at most")


async def test_all_connections_of_both_sides_are_killed_under_load_and_tails_lose_nothing(
    direct: Database,
) -> None:
    reader = await direct.open(poll_interval=0.5)
    tails = [_tail(reader) for _ in range(3)]
    async with _written(direct) as progress:
        for _ in range(KILLS):
            await progress()
            await eventually("some are killed", lambda: _killed(direct, OF_NOTIFIERS))
        await progress()
    await reader.append(SESSION, "one", "end", final=True)
    await _check(direct, tails)


async def test_through_a_pooler_in_transaction_mode_tails_poll_and_it_is_said_once(
    direct: Database, pooled: Database, caplog: pytest.LogCaptureFixture
) -> None:
    reader = await pooled.open(pool_size=4, **NAMED)
    tails = [_tail(reader) for _ in range(3)]
    await eventually("it is said", lambda: WARNING in caplog.text)
    async with _written(direct) as progress:
        for _ in range(KILLS):
            await progress()
            await eventually("one is killed", lambda: _killed(direct, f"application_name = '{READER}'"))
            assert await _mode(reader) == "polling"
        await progress()
    await reader.append(SESSION, "one", "end", final=True)
    await _check(direct, tails)
    assert caplog.text.count(WARNING) == 1


async def test_what_is_written_through_a_pooler_is_heard_by_those_who_can_listen(
    direct: Database, pooled: Database
) -> None:
    reader, writer = await direct.open(poll_interval=NEVER), await pooled.open(pool_size=4)
    tails = [_tail(reader)]
    await _becomes(reader, "listening")
    for n in range(30):
        await writer.append(SESSION, "one", str(n), final=n == 29)
    await _check(direct, tails)


async def test_an_outage_is_seen_in_health_and_what_was_written_meanwhile_is_found(proxied: Proxied) -> None:
    reader, writer = await proxied.database.open(poll_interval=NEVER), await proxied.direct.open()
    tails = [_tail(reader)]
    await _becomes(reader, "listening")
    proxied.proxy.refuse()
    proxied.proxy.cut()
    await _becomes(reader, "reconnecting")
    health = await reader.health(timeout=1)
    assert (health.reachable, health.revision) == (False, None)
    assert health.error
    for n in range(5):
        await writer.append(SESSION, "one", str(n), final=n == 4)
    proxied.proxy.pass_through()
    await _check(proxied.direct, tails)
    await _becomes(reader, "listening", reconnects=1)


async def test_health_is_told_in_time_also_where_nothing_answers(proxied: Proxied) -> None:
    store = await proxied.database.open()
    await store.append(SESSION, "one", "x")
    proxied.proxy.black_hole()
    health = await asyncio.wait_for(store.health(timeout=0.2), PATIENCE)
    assert not health.reachable
    assert "0.2 s" in (health.error or "")
    proxied.proxy.cut()
    proxied.proxy.pass_through()
    await eventually("it answers", lambda: _reachable(store))


async def _reachable(store: Store) -> bool:
    return (await store.health()).reachable


async def test_a_silent_connection_is_found_out_and_replaced(proxied: Proxied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_PROBE_INTERVAL", 0.1)
    monkeypatch.setattr(postgres, "_ECHO_PATIENCE", 0.5)
    reader = await proxied.database.open(poll_interval=NEVER, timeout=1)
    tails = [_tail(reader)]
    await _becomes(reader, "listening")
    proxied.proxy.black_hole()
    await _becomes(reader, "reconnecting")
    proxied.proxy.cut()
    proxied.proxy.pass_through()
    await _becomes(reader, "listening", reconnects=1)
    for tail in tails:
        tail.cancel()
    await asyncio.gather(*tails, return_exceptions=True)


async def test_a_hot_standby_is_polled_until_it_is_promoted(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dsn = own_postgres.create_database("standby")
    await upgrade(dsn)
    own_postgres.stop()
    (own_postgres.folder / "data" / "standby.signal").touch()
    own_postgres.start()
    monkeypatch.setattr(postgres, "_PROBE_INTERVAL", 0.1)
    database = Database("postgres", dsn)
    store = await database.open()
    tails = [_tail(store)]
    await eventually("it is said", lambda: WARNING in caplog.text)
    assert await _mode(store) == "polling"
    assert await execute(database, "SELECT pg_promote()") == [(True,)]
    await _becomes(store, "listening")
    await store.append(SESSION, "one", "x", final=True)
    await _check(database, tails)
    assert caplog.text.count(WARNING) == 1
    await database.close()
