"""What there is, in figures, and what a purge would remove."""

from __future__ import annotations

from mcp_persist_sa import NewEvent, Purged
from mcp_persist_sa.oversight import Holding, Rate
from tests.contract.support import Clock, fill
from tests.databases import Database


async def test_what_there_is_is_told_in_figures(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=600)
    assert (await store.stats()).events == 0
    begin = clock.time
    await store.sessions.create("expired")
    await fill(store, "expired", "1", 4, final=True)
    clock.advance(minutes=9)
    await store.sessions.create("small")
    await store.sessions.create("large")
    await fill(store, "small", "1", 3)
    clock.advance(minutes=1)
    claimed = store.claim("large", "1")
    for n in range(10):
        await claimed.append(str(n)).durable()
    await store.sessions.close("small")
    await store.join()

    stats = await store.stats()
    assert (stats.sessions, stats.sessions_open, stats.sessions_expired) == (3, 1, 1)
    assert (stats.streams, stats.streams_unfinished, stats.events) == (3, 2, 17)
    assert (stats.oldest_session, stats.oldest_stream, stats.nodes) == (begin, begin, 1)
    assert stats.last_minute == Rate(sessions=0, streams=1, events=10)
    assert stats.last_hour == Rate(sessions=3, streams=3, events=17)
    assert stats.largest == (Holding("large", 1, 10), Holding("expired", 1, 4), Holding("small", 1, 3))
    assert stats.message_bytes is None
    assert (await store.stats(exact=True)).message_bytes == 17
    assert (stats.disk_bytes or 0) > 0


async def test_what_is_gone_is_not_counted(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, event_ttl=60, max_events_per_stream=5)
    claimed = store.claim("session", "claimed")
    for n in range(3):
        await claimed.append(str(n)).durable()
    await fill(store, "session", "limited", 8)
    await store.purge()
    assert (await store.stats()).events == (await store.stats(exact=True)).events == 8
    clock.advance(seconds=60)
    await store.purge()
    assert (await store.stats()).events == (await store.stats(exact=True)).events == 0
    await claimed.append("more").durable()
    assert (await store.stats()).events == (await store.stats(exact=True)).events == 1


async def test_another_namespace_is_not_counted(shared_database: Database) -> None:
    store = await shared_database.open(namespace="one")
    await store.sessions.create("session")
    await fill(store, "session", "1", 4)
    other = await shared_database.open(namespace="two")
    stats = await other.stats(exact=True)
    assert (stats.sessions, stats.streams, stats.events, stats.message_bytes, stats.largest) == (0, 0, 0, 0, ())


async def test_what_would_be_removed_is_what_is_removed(shared_database: Database, clock: Clock) -> None:
    options = {"clock": clock, "event_ttl": 600, "session_ttl": 300, "state_ttl": 60}
    store = await shared_database.open(**options)
    await store.sessions.create("expired")
    await fill(store, "expired", "1", 4, final=True)
    await fill(store, "expired", "2", 2)
    await store.state("expired").set("a", 1)
    await fill(store, "handle", "old", 3, final=True)
    await fill(store, "handle", "goes on", 5)
    await store.state("handle").set("a", 1)
    await store.state("handle").set("deleted", 1)
    await store.state("handle").delete("deleted")
    other = await shared_database.open(**options, namespace="other")
    await other.sessions.create("expired")
    await fill(other, "expired", "1", 7)
    limited = await shared_database.open(**options, max_events_per_stream=6)
    for seconds, expected in (
        (0, Purged()),
        (300, Purged(sessions=1, streams=2, events=6, state=2)),
        (300, Purged(events=9)),
        (600, Purged(streams=1, events=2)),
    ):
        clock.advance(seconds=seconds)
        assert await limited.purgeable() == expected, seconds
        assert await limited.purge() == expected, seconds
        assert await limited.purgeable() == Purged()
        await store.append("handle", "goes on", "x")
    await store.append_many("handle", "goes on", [NewEvent(str(n)) for n in range(8)])
    foreseen = await limited.purgeable()
    assert foreseen.events > 0
    assert await limited.purge() == foreseen
