"""Policies of tenants: a purge keeps less of them, nobody misses anything in silence, and it is known what went."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mcp_persist_sa import (
    AuditEntry,
    HistoryLost,
    InvalidInput,
    Policy,
    Purged,
    SessionNotFound,
    Store,
    Unsupported,
)
from mcp_persist_sa.backends.sql.audit import Trail
from tests.contract import beside
from tests.contract.support import Clock, execute, fill, messages
from tests.databases import Database

NOTHING = Purged()


async def trail(store: Store, tenant: str | None = None) -> list[tuple[str | None, str, str, Purged]]:
    """What was removed, the newest first: of whom, why, by whom, and what."""
    entries = (await store.audit(tenant=tenant)).entries
    return [(e.tenant, e.reason, e.by, Purged(e.sessions, e.streams, e.events, e.state)) for e in entries]


# Keeping policies


async def test_a_policy_is_kept_as_it_is_given_until_it_is_removed(tables_database: Database) -> None:
    store = await tables_database.open()
    assert await store.policies.list() == []
    assert await store.policies.get("acme") is None
    whole = Policy(
        tenant="acme",
        session_ttl=timedelta(seconds=60),
        event_ttl=timedelta(hours=23),
        max_events=7,
        audit_ttl=timedelta(days=365),
    )
    given: dict[str, Any] = {
        "session_ttl": 60,
        "event_ttl": timedelta(hours=23),
        "max_events": 7,
        "audit_ttl": 365 * 86400.0,
    }
    assert await store.policies.set("acme", **given) == whole
    assert await store.policies.get("acme") == whole
    default = await store.policies.set(None, audit_ttl=1.5)
    assert await store.policies.get(None) == default == Policy(tenant=None, audit_ttl=timedelta(seconds=1.5))
    replaced = await store.policies.set("acme", max_events=3)
    assert await store.policies.list() == [default, replaced]
    assert replaced == Policy(tenant="acme", max_events=3)
    assert await store.policies.remove("acme")
    assert not await store.policies.remove("acme")
    assert await store.policies.list() == [default]


async def test_each_namespace_has_its_own(sql_database: Database, clock: Clock) -> None:
    one, other = [await sql_database.open(namespace=name, clock=clock) for name in ("one", "other")]
    await one.policies.set("acme", event_ttl=60, audit_ttl=60)
    assert await other.policies.list() == []
    for store in (one, other):
        await store.sessions.create("session", tenant="acme")
        await fill(store, "session", "1", 3)
    clock.advance(seconds=60)
    assert await other.purge() == NOTHING
    assert await one.purge() == Purged(events=3)
    assert await trail(other) == []
    assert len(await trail(one)) == 1


@pytest.mark.parametrize(
    ("tenant", "says", "words"),
    [
        ("acme", {}, "says nothing"),
        ("", {"max_events": 1}, "has a name"),
        (None, {"event_ttl": 60}, "the options of the store"),
        (None, {"max_events": 60, "audit_ttl": 1}, "the options of the store"),
        ("acme", {"event_ttl": 86401}, "no more than the store does, whose event_ttl is 86400 s"),
        ("acme", {"session_ttl": timedelta(hours=1)}, "whose session_ttl is 1800 s"),
        ("acme", {"max_events": 101}, "whose max_events_per_session is 100"),
        ("acme", {"max_events": 0}, "from 1"),
        ("acme", {"event_ttl": 0}, "from a millisecond"),
        ("acme", {"event_ttl": float("nan")}, "from a millisecond"),
        ("acme", {"audit_ttl": timedelta(days=40_000)}, "to a century"),
        ("acme", {"audit_ttl": True}, "a number of seconds"),
        ("acme", {"audit_ttl": "1"}, "a number of seconds"),
        ("a\0", {"audit_ttl": 1}, "without NUL"),
    ],
)
async def test_what_cannot_be_a_policy_is_refused(tenant: str | None, says: dict[str, Any], words: str) -> None:
    async with Store("sqlite://", max_events_per_session=100) as store:
        with pytest.raises(InvalidInput, match=words):
            await store.policies.set(tenant, **says)
        assert await store.policies.list() == []


async def test_where_the_store_keeps_for_ever_a_policy_may_keep_long(tables_database: Database) -> None:
    store = await tables_database.open(event_ttl=None, session_ttl=None)
    assert (await store.policies.set("acme", event_ttl=10**8, session_ttl=10**8)).event_ttl is not None


# What a purge removes


async def test_events_of_a_tenant_are_removed_earlier_and_their_loss_is_said(
    tables_database: Database, clock: Clock
) -> None:
    store = await tables_database.open(clock=clock)
    await store.policies.set("acme", event_ttl=60)
    ids: dict[str, list[str]] = {}
    for session_id, tenant in (("theirs", "acme"), ("other", "other"), ("nobody", None)):
        await store.sessions.create(session_id, tenant=tenant)
        ids[session_id] = await fill(store, session_id, "1", 2)
    clock.advance(seconds=60)
    ids["theirs"] += await fill(store, "theirs", "1", 1)
    assert await store.purgeable() == Purged(events=2)
    assert await store.purge() == Purged(events=2)
    assert await store.purge() == await store.purgeable() == NOTHING
    with pytest.raises(HistoryLost):
        await store.read("theirs", after=ids["theirs"][0])
    assert messages(await store.read("theirs", after=ids["theirs"][1])) == ["1"]
    for session_id in ("other", "nobody"):
        assert messages(await store.read(session_id, after=ids[session_id][0])) == ["2"]


async def test_many_streams_of_many_sessions_are_gone_through(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock)
    await store.policies.set("acme", event_ttl=60)
    for n in range(7):
        await store.sessions.create(f"s{n}", tenant="acme" if n < 6 else "other")
        for stream in range(9):
            await fill(store, f"s{n}", str(stream), 2, final=stream % 2 == 0)
    await fill(store, "s0", "long", 2500)
    clock.advance(seconds=60)
    assert await store.purge() == Purged(events=6 * 9 * 2 + 2500)
    assert await store.purge() == NOTHING


async def test_a_session_of_a_tenant_ends_earlier(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock, session_ttl=1200)
    await store.policies.set("acme", session_ttl=60)
    for session_id, tenant in (("idle", "acme"), ("used", "acme"), ("other", "other"), ("nobody", None)):
        await store.sessions.create(session_id, tenant=tenant)
        await store.state(session_id).set("a", 1)
        await fill(store, session_id, "1", 3)
    # Uses are written down once in a twentieth of the time to live, so much longer may they be ago.
    clock.advance(seconds=60)
    await store.sessions.touch("used")
    clock.advance(seconds=59)
    assert await store.purgeable() == await store.purge() == NOTHING
    clock.advance(seconds=1)
    assert await store.purgeable() == Purged(sessions=1, streams=1, events=3, state=1)
    assert await store.purge() == Purged(sessions=1, streams=1, events=3, state=1)
    assert await store.purge() == await store.purgeable() == NOTHING
    with pytest.raises(SessionNotFound):
        await store.sessions.get("idle")
    assert await store.sessions.count() == 3


async def test_a_session_that_is_used_is_kept_though_its_use_is_seldom_written_down(
    tables_database: Database, clock: Clock
) -> None:
    store = await tables_database.open(clock=clock, session_ttl=None)
    await store.policies.set("acme", session_ttl=60)
    await store.sessions.create("used", tenant="acme")
    for _ in range(100):
        clock.advance(seconds=60)
        await store.sessions.touch("used")
        assert await store.purge() == NOTHING
    clock.advance(seconds=3660)
    assert await store.purge() == Purged(sessions=1)


async def test_a_session_of_a_tenant_holds_fewer_events(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock, max_events_per_stream=9)
    await store.policies.set("acme", max_events=6)
    for session_id, tenant in (("theirs", "acme"), ("other", "other"), ("empty", "acme")):
        await store.sessions.create(session_id, tenant=tenant)
    for n in range(18):
        for session_id in ("theirs", "other"):
            await store.append(session_id, "ab"[n % 2], str(n))
        clock.advance(seconds=1)
    assert await store.purgeable() == Purged(events=12)
    assert await store.purge() == Purged(events=12)
    assert await store.purge() == await store.purgeable() == NOTHING
    assert messages(await store.recent("theirs", "a")) == ["12", "14", "16"]
    assert len((await store.recent("other", "b")).events) == 9


async def test_what_would_be_removed_is_counted_once(tables_database: Database, clock: Clock) -> None:
    options = {"clock": clock, "event_ttl": 600, "session_ttl": 600}
    store = await tables_database.open(**options)
    for session_id in ("a", "b", "c", "d"):
        await store.sessions.create(session_id, tenant="acme")
        await fill(store, session_id, "1", 20)
        await fill(store, session_id, "2", 1, final=True)
        await store.state(session_id).set("key", 1)
        clock.advance(seconds=100)
        await fill(store, session_id, "1", 20)
    await store.policies.set("acme", session_ttl=300, event_ttl=150, max_events=10)
    limited = store
    if tables_database.kind in ("sqlite", "postgres"):
        limited = await tables_database.open(**options, max_events_per_stream=15)
    await store.sessions.delete("d")
    foreseen = await limited.purgeable()
    assert foreseen.sessions == foreseen.state == 1
    assert foreseen.events > 41
    assert await limited.purge() == foreseen
    assert await limited.purge() == NOTHING


async def test_without_a_policy_any_more_the_options_hold(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock)
    await store.policies.set("acme", event_ttl=60)
    await store.sessions.create("session", tenant="acme")
    await fill(store, "session", "1", 3)
    clock.advance(seconds=61)
    await store.policies.remove("acme")
    assert await store.purge() == NOTHING


# What is known of it


async def test_each_kind_of_removal_is_written_down_for_its_tenant(tables_database: Database, clock: Clock) -> None:
    options = {"clock": clock, "event_ttl": 600, "session_ttl": 600, "state_ttl": 60}
    store = await tables_database.open(**options)
    await store.policies.set("acme", max_events=5, audit_ttl=10**6)
    await store.policies.set(None, audit_ttl=10**6)
    await store.policies.set("untold", event_ttl=60)
    for session_id, tenant in (("one", "acme"), ("two", "acme"), ("other", "untold"), ("nobody", None)):
        await store.sessions.create(session_id, tenant=tenant)
        await fill(store, session_id, "1", 8, final=True)
    await store.state("handle").set("a", 1)

    async def newest(count: int) -> set[tuple[str | None, str, str, Purged]]:
        clock.advance(seconds=1)
        return {*(await trail(store))[:count]}

    assert await store.purge() == Purged(events=6)
    assert await trail(store) == 2 * [("acme", "limit", "purge", Purged(events=3))]
    clock.advance(seconds=60)
    await store.purge()
    assert await newest(2) == {
        (None, "state expired", "purge", Purged(state=1)),
        ("untold", "events expired", "purge", Purged(events=8)),
    }
    await store.sessions.delete("one")
    assert await newest(1) == {("acme", "deleted", "call", Purged(sessions=1, streams=1, events=5))}
    await store.delete_events("nobody")
    assert await newest(1) == {(None, "deleted", "call", Purged(streams=1, events=8))}
    ids = await fill(store, "two", "2", 2)
    assert await store.delete_before("two", ids[1]) == 1
    assert await newest(1) == {("acme", "deleted", "call", Purged(events=1))}
    clock.advance(seconds=600)
    await store.backend.tend("node", timedelta(seconds=15), timedelta(seconds=15))
    assert await newest(3) == {
        ("acme", "session expired", "node", Purged(sessions=1, streams=2, events=6)),
        ("untold", "session expired", "node", Purged(sessions=1, streams=1)),
        (None, "session expired", "node", Purged(sessions=1)),
    }
    assert {entry[0] for entry in await trail(store, "acme")} == {"acme"}


async def test_what_goes_over_a_limit_is_written_down_by_whoever_appends(tables_database: Database) -> None:
    store = await tables_database.open(max_events_per_stream=10)
    await store.policies.set(None, audit_ttl=60)
    for n in range(30):
        await store.append("session", "1", str(n))
    entries = await trail(store)
    assert {entry[:3] for entry in entries} == {(None, "limit", "append")}
    assert sum(entry[3].events for entry in entries) == 30 - (await store.stream("session", "1")).count


async def test_a_stream_that_is_forgotten_is_written_down(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock, event_ttl=60, session_ttl=None)
    await store.policies.set("acme", audit_ttl=10**6)
    await store.sessions.create("session", tenant="acme")
    await fill(store, "session", "1", 3, final=True)
    clock.advance(seconds=120)
    assert await store.purge() == Purged(streams=1, events=3)
    assert {*await trail(store)} == {
        ("acme", "events expired", "purge", Purged(events=3)),
        ("acme", "stream forgotten", "purge", Purged(streams=1)),
    }


async def test_nothing_is_written_down_of_whom_nobody_asked(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock)
    await store.policies.set("acme", event_ttl=60)
    await store.policies.set("other", audit_ttl=60)
    await store.sessions.create("session", tenant="acme")
    await fill(store, "session", "1", 3)
    clock.advance(seconds=60)
    assert await store.purge() == Purged(events=3)
    await store.sessions.delete("session")
    assert (await store.audit()).entries == ()


async def test_an_entry_is_known_for_its_time_and_is_then_removed(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock)
    await store.policies.set(None, audit_ttl=60)
    await store.sessions.create("session", tenant="acme")
    begin = clock.time
    await store.sessions.delete("session")
    assert await store.purge() == NOTHING
    assert (await store.audit()).entries == (AuditEntry(begin, "acme", "deleted", "call", 1, 0, 0, 0),)
    clock.advance(seconds=60)
    assert (await store.audit()).entries == ()
    await store.purge()
    clock.advance(seconds=-60)
    assert (await store.audit()).entries == ()


async def test_the_trail_is_read_in_pages_the_newest_first(tables_database: Database, clock: Clock) -> None:
    store = await tables_database.open(clock=clock)
    await store.policies.set(None, audit_ttl=10**6)
    for n in range(10):
        await store.sessions.create("session", tenant="ab"[n % 2])
        await store.sessions.delete("session")
        if n % 3 == 0:
            clock.advance(seconds=1)
    for tenant, count in ((None, 10), ("a", 5), ("c", 0)):
        found: list[AuditEntry] = []
        after = None
        while True:
            page = await store.audit(tenant=tenant, limit=3, after=after)
            found += page.entries
            if page.next is None:
                break
            after = page.next
        assert len(found) == count
        assert found == sorted(found, key=lambda entry: entry.at, reverse=True)
    for refused in ({"after": "x"}, {"limit": 0}, {"tenant": "\0"}):
        with pytest.raises(InvalidInput):
            await store.audit(**refused)  # pyright: ignore[reportArgumentType]


# Both or neither


async def _events_and_entries(database: Database) -> tuple[int, int]:
    [row] = await execute(
        database, "SELECT (SELECT count(*) FROM mcp_events), (SELECT coalesce(sum(events), 0) FROM mcp_audit)"
    )
    return row[0], int(row[1])


Removal = Callable[[Store, str], Any]
REMOVALS: dict[str, Removal] = {
    "purge": lambda store, _: store.purge(),
    "janitor": lambda store, _: store.backend.tend("node", timedelta(seconds=15), timedelta(seconds=15)),
    "delete": lambda store, _: store.sessions.delete("session"),
    "delete_events": lambda store, _: store.delete_events("session"),
    "delete_before": lambda store, last: store.delete_before("session", last),
}


class CutOff(Exception):
    """The entry is not written."""


@pytest.mark.parametrize("how", REMOVALS)
async def test_what_cannot_be_written_down_is_not_removed(
    sql_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    store = await sql_database.open(clock=clock)
    await store.policies.set("acme", event_ttl=60, audit_ttl=10**6)
    await store.sessions.create("session", tenant="acme")
    ids = await fill(store, "session", "1", 50)
    clock.advance(seconds=60)

    def cut_off(*_: Any) -> None:
        raise CutOff

    with monkeypatch.context() as broken:
        broken.setattr(Trail, "write", cut_off)
        with pytest.raises(CutOff):
            await REMOVALS[how](store, ids[-1])
        assert await _events_and_entries(sql_database) == (50, 0)
    await REMOVALS[how](store, ids[-1])
    left, known = await _events_and_entries(sql_database)
    assert left <= 1
    assert left + known == 50


@pytest.mark.parametrize("reason", ["stream forgotten", "state expired"])
async def test_nor_is_what_many_sessions_have_left(
    sql_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    store = await sql_database.open(clock=clock, event_ttl=60, state_ttl=60)
    await fill(store, "handle", "1", 3, final=True)
    clock.advance(seconds=60)
    assert await store.purge() == Purged(events=3)
    await store.state("handle").set("a", 1)
    clock.advance(seconds=60)
    await store.policies.set(None, audit_ttl=10**6)
    write = Trail.write

    def cut_off(self: Trail, *given: Any) -> None:
        if self.reason == reason:
            raise CutOff
        write(self, *given)

    with monkeypatch.context() as broken:
        broken.setattr(Trail, "write", cut_off)
        with pytest.raises(CutOff):
            await store.purge()
    await store.purge()
    assert {entry[1:] for entry in await trail(store)} == {
        ("stream forgotten", "purge", Purged(streams=1)),
        ("state expired", "purge", Purged(state=1)),
    }


async def test_at_every_moment_what_is_gone_is_known(sql_database: Database, clock: Clock) -> None:
    store = await sql_database.open(clock=clock)
    await store.policies.set("acme", event_ttl=60)
    await store.policies.set(None, audit_ttl=10**6)
    for n in range(20):
        await store.sessions.create(f"s{n}", tenant="acme" if n % 2 else None)
        await fill(store, f"s{n}", "1", 150)
    clock.advance(seconds=60)
    purging = asyncio.ensure_future(store.purge())
    seen: set[tuple[int, int]] = set()
    while not purging.done():
        seen.add(await _events_and_entries(sql_database))
        await asyncio.sleep(0)
    assert (await purging).events == 1500
    seen.add(await _events_and_entries(sql_database))
    assert {left + known for left, known in seen} == {3000}
    assert len(seen) > 1


# Redis


async def test_redis_refuses_what_it_cannot_give(redis_database: Database) -> None:
    store = await redis_database.open()
    calls: list[Callable[[], Any]] = [
        lambda: store.policies.set("acme", max_events=1),
        lambda: store.policies.get("acme"),
        lambda: store.policies.list(),
        lambda: store.policies.remove("acme"),
        lambda: store.audit(),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match="namespace with options of its own"):
            await call()
    assert await beside.count(redis_database, "sessions") == 0
