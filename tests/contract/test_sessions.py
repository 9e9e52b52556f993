"""Sessions: recorded, found, used, ended, counted."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mcp_persist_sa import (
    InvalidInput,
    SessionExists,
    SessionLimitReached,
    SessionNotFound,
    Store,
    StreamNotFound,
    TooLarge,
    UnknownEvent,
)
from tests.contract.beside import count
from tests.contract.support import Clock, fill, messages
from tests.databases import Database

GIVEN: dict[str, Any] = {
    "owner": "alice",
    "tenant": "acme",
    "protocol_version": "2025-11-25",
    "client_info": {"name": "client", "version": "1"},
    "handshake": {"id": 0, "params": {"capabilities": {}}},
    "metadata": {"plan": "free", "n": [1, None, True]},
}


async def _ids(store: Store, **which: Any) -> list[str]:
    return [session.session_id async for session in store.sessions.all(**which)]


async def test_a_session_with_a_given_id_is_recorded_as_given(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=600)
    made = await store.sessions.create("given", **GIVEN)
    assert {name: getattr(made, name) for name in GIVEN} == GIVEN
    assert (made.session_id, made.status, made.closed_at) == ("given", "open", None)
    assert (made.created_at, made.last_seen_at) == (clock.time, clock.time)
    assert made.expires_at == clock.time + timedelta(minutes=10)
    assert await store.sessions.get("given") == made


async def test_a_session_needs_nothing_but_its_id(store: Store) -> None:
    made = await store.sessions.create("given")
    assert (made.owner, made.tenant, made.protocol_version, made.client_info, made.handshake) == (None,) * 5
    assert made.metadata == {}
    assert made.created_at.tzinfo is not None
    assert await store.sessions.get("given") == made


async def test_a_fresh_id_is_a_uuid_of_version_7_in_the_order_of_time(store: Store) -> None:
    made = [await store.sessions.create() for _ in range(3)]
    ids = [uuid.UUID(session.session_id) for session in made]
    assert [(new.version, new.variant) for new in ids] == [(7, uuid.RFC_4122)] * 3
    assert len(set(ids)) == 3
    moments = [new.int >> 80 for new in ids]
    assert moments == sorted(moments)
    assert abs(datetime.fromtimestamp(moments[0] / 1000, timezone.utc) - datetime.now(timezone.utc)) < timedelta(days=1)


async def test_a_session_is_made_once(shared_database: Database) -> None:
    nodes = [await shared_database.open() for _ in range(2)]
    calls = [nodes[n % 2].sessions.create("given", owner=str(n)) for n in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert [isinstance(result, SessionExists) for result in results].count(True) == 19
    assert (await nodes[0].sessions.get("given")).owner == winners[0].owner


async def test_what_was_never_opened_is_not_found(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        await store.sessions.get("none")
    with pytest.raises(SessionNotFound):
        await store.sessions.touch("none")
    with pytest.raises(SessionNotFound):
        await store.sessions.update("none", owner="x")
    assert not await store.sessions.close("none")
    assert tuple(await store.sessions.delete("none")) == (0, 0, 0, 0)


# Update


async def test_the_handshake_and_the_metadata_are_updated(store: Store) -> None:
    made = await store.sessions.create("given", **GIVEN)
    handshake = {"id": 1, "params": {"capabilities": {"roots": {}}}}
    updated = await store.sessions.update("given", handshake=handshake, metadata={"plan": "paid"})
    assert (updated.handshake, updated.metadata) == (handshake, {"plan": "paid"})
    assert (updated.owner, updated.client_info, updated.created_at) == ("alice", made.client_info, made.created_at)
    assert await store.sessions.get("given") == updated


async def test_each_field_is_updated_alone_and_can_be_emptied(store: Store) -> None:
    await store.sessions.create("given", **GIVEN)
    for name in GIVEN:
        emptied = await store.sessions.update("given", **{name: None})
        empty = {} if name == "metadata" else None
        assert {field: getattr(emptied, field) for field in GIVEN} == {**GIVEN, name: empty}
        filled = await store.sessions.update("given", **{name: GIVEN[name]})
        assert {field: getattr(filled, field) for field in GIVEN} == GIVEN


async def test_an_update_is_a_use(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create("given")
    clock.advance(seconds=59)
    updated = await store.sessions.update("given", owner="bob")
    assert (updated.last_seen_at, updated.expires_at) == (clock.time, clock.time + timedelta(seconds=63))


async def test_an_update_takes_nothing_from_the_uses_that_are_not_written_down(
    shared_database: Database, clock: Clock
) -> None:
    one, other = [await shared_database.open(clock=clock, session_ttl=1000) for _ in range(2)]
    await one.sessions.create("given")
    await one.sessions.touch("given")
    await other.sessions.update("given", owner="bob")
    clock.advance(seconds=49)
    await one.sessions.touch("given")
    clock.advance(seconds=999)
    assert await one.sessions.get("given")


async def test_other_fields_are_not_updated(store: Store) -> None:
    await store.sessions.create("given")
    for name in ("created_at", "expires_at", "namespace", "nonsense"):
        with pytest.raises(InvalidInput, match=name):
            await store.sessions.update("given", **{name: "x"})


# Use and expiry


async def test_a_session_lives_from_use_to_use(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create("used")
    await store.sessions.create("idle")
    for _ in range(5):
        clock.advance(seconds=50)
        await store.sessions.touch("used")
    assert (await store.sessions.get("used")).last_seen_at == clock.time
    with pytest.raises(SessionNotFound):
        await store.sessions.get("idle")


async def test_a_busy_session_costs_few_writes_and_still_lives_its_time(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=1000)
    await store.sessions.create("busy")
    written: set[datetime] = set()
    for _ in range(1000):
        await store.sessions.touch("busy")
        written.add((await store.sessions.get("busy")).last_seen_at)
        clock.advance(seconds=1)
    assert 15 <= len(written) <= 25
    # The last use was a second ago: the session is there for its whole time from then on, though that use was not
    # written down.
    clock.advance(seconds=998)
    assert await store.sessions.get("busy")
    clock.advance(seconds=60)
    with pytest.raises(SessionNotFound):
        await store.sessions.get("busy")


async def test_an_expired_session_is_served_nowhere(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create("given", owner="alice")
    await store.state("given").set("key", 1)
    ids = await fill(store, "given", "1", 2)
    clock.advance(seconds=60)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.sessions.get("given"),
        lambda: store.sessions.touch("given"),
        lambda: store.sessions.update("given", owner="x"),
        lambda: store.read("given", after=ids[0]),
        lambda: store.read("given", stream_id="1"),
        lambda: store.read_before("given", ids[1]),
        lambda: store.recent("given", "1"),
        lambda: store.delete_before("given", ids[1]),
    ]
    for call in calls:
        with pytest.raises(SessionNotFound):
            await call()
    assert not await store.sessions.close("given")
    assert await _ids(store) == []
    assert await store.sessions.count(owner="alice") == 0
    assert await store.state("given").get("key") is None
    assert await store.state("given").keys() == []
    assert [info async for info in store.streams("given")] == []
    with pytest.raises((SessionNotFound, StreamNotFound)):
        await store.stream("given", "1")


async def test_a_session_that_takes_the_id_of_an_expired_one_has_nothing_of_it(
    database: Database, clock: Clock
) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create("given", owner="alice", metadata={"a": 1})
    await store.state("given").set("secret", 1)
    ids = await fill(store, "given", "1", 2)
    clock.advance(seconds=61)
    made = await store.sessions.create("given", owner="bob")
    assert (made.owner, made.metadata, made.created_at) == ("bob", {}, clock.time)
    assert await store.state("given").get("secret") is None
    assert await store.state("given").keys() == []
    assert [info async for info in store.streams("given")] == []
    with pytest.raises(UnknownEvent):
        await store.read("given", after=ids[0])
    with pytest.raises(StreamNotFound):
        await store.read("given", stream_id="1")


async def test_sessions_without_a_time_to_live_stay(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=None)
    assert (await store.sessions.create("given")).expires_at is None
    clock.advance(days=10_000)
    await store.sessions.touch("given")
    assert (await store.sessions.get("given")).expires_at is None
    assert (await store.purge()).sessions == 0


# The end


async def test_a_closed_session_is_remembered_but_not_open(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.sessions.create("given", owner="alice")
    ids = await fill(store, "given", "1", 2)
    clock.advance(seconds=5)
    assert await store.sessions.close("given")
    closed = await store.sessions.get("given")
    assert (closed.status, closed.closed_at, closed.owner) == ("closed", clock.time, "alice")
    assert not await store.sessions.close("given")
    with pytest.raises(SessionNotFound):
        await store.sessions.touch("given")
    with pytest.raises(SessionNotFound):
        await store.sessions.update("given", owner="bob")
    with pytest.raises(SessionExists):
        await store.sessions.create("given")
    assert messages(await store.read("given", after=ids[0])) == ["2"]


async def test_a_session_that_another_node_closed_is_closed(shared_database: Database) -> None:
    one, other = await shared_database.open(), await shared_database.open()
    await one.sessions.create("given")
    assert await other.sessions.close("given")
    assert (await one.sessions.get("given")).status == "closed"
    with pytest.raises(SessionNotFound):
        await one.sessions.touch("given")


async def test_a_deleted_session_takes_everything_along(store: Store) -> None:
    for session_id in ("given", "other"):
        await store.sessions.create(session_id, owner="alice")
        await store.state(session_id).set("a", 1)
        await store.state(session_id).set("b", 2)
        await fill(store, session_id, "1", 2, final=True)
        await fill(store, session_id, "2", 3)
    ids = await fill(store, "given", "3", 1500)
    assert tuple(await store.sessions.delete("given")) == (1, 3, 1505, 2)
    with pytest.raises(SessionNotFound):
        await store.sessions.get("given")
    with pytest.raises(UnknownEvent):
        await store.read("given", after=ids[0])
    assert [info async for info in store.streams("given")] == []
    assert await store.state("given").keys() == []
    assert await _ids(store) == ["other"]
    assert await store.state("other").keys() == ["a", "b"]
    assert len([info async for info in store.streams("other")]) == 2


async def test_a_deletion_leaves_no_row_behind(shared_database: Database) -> None:
    store = await shared_database.open()
    await store.sessions.create("given")
    await store.state("given").set("a", 1)
    await store.state("given").delete("a")
    await fill(store, "given", "1", 2)
    await store.sessions.delete("given")
    for what in ("sessions", "state", "streams", "events"):
        assert await count(shared_database, what) == 0


async def test_a_deleted_session_s_id_can_be_given_again(store: Store) -> None:
    await store.sessions.create("given", owner="alice")
    await store.sessions.delete("given")
    assert (await store.sessions.create("given", owner="bob")).owner == "bob"


async def test_all_sessions_of_one_owner_are_deleted(store: Store) -> None:
    for n in range(120):
        await store.sessions.create(f"alice-{n}", owner="alice")
    await fill(store, "alice-0", "1", 2)
    await store.state("alice-1").set("a", 1)
    await store.sessions.create("bob", owner="bob")
    await store.sessions.create("nobody")
    assert tuple(await store.sessions.delete_owner("alice")) == (120, 1, 2, 1)
    assert sorted(await _ids(store)) == ["bob", "nobody"]
    assert tuple(await store.sessions.delete_owner("alice")) == (0, 0, 0, 0)


async def test_the_expired_sessions_of_an_owner_are_deleted_with_the_others(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create("old", owner="alice")
    await fill(store, "old", "1", 3)
    clock.advance(seconds=60)
    assert tuple(await store.sessions.delete_owner("alice")) == (1, 1, 3, 0)
    assert tuple(await store.purge()) == (0, 0, 0, 0)


# Listing and counting


async def test_sessions_are_listed_in_pages_in_the_order_of_their_opening(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    for n in range(7):
        await store.sessions.create(f"s{6 - n}")
        clock.advance(seconds=1)
    expected = [f"s{6 - n}" for n in range(7)]
    assert await _ids(store) == expected
    page, listed = await store.sessions.list(limit=3), list[str]()
    while True:
        listed += [session.session_id for session in page.sessions]
        assert len(page.sessions) <= 3
        if page.next is None:
            break
        page = await store.sessions.list(limit=3, after=page.next)
    assert listed == expected


async def test_sessions_are_listed_the_newest_first(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    for n in range(7):
        await store.sessions.create(f"s{n}", owner="odd" if n % 2 else "even")
        clock.advance(seconds=n % 2)
    listed = await _ids(store, newest_first=True)
    assert sorted(listed) == [f"s{n}" for n in range(7)]
    assert listed == (await _ids(store))[::-1]
    assert await _ids(store, newest_first=True, limit=2) == listed
    assert await _ids(store, newest_first=True, limit=2, owner="odd") == ["s5", "s3", "s1"]
    page = await store.sessions.list(newest_first=True, limit=3)
    await store.sessions.delete(listed[2])
    assert await _ids(store, newest_first=True, after=page.next) == listed[3:]


async def test_sessions_of_the_same_moment_are_all_listed_once(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    names = {f"s{n}" for n in range(23)}
    for name in names:
        await store.sessions.create(name)
    listed = await _ids(store, limit=5)
    assert (len(listed), set(listed)) == (23, names)


async def test_sessions_that_end_while_they_are_listed_disturb_nothing(store: Store) -> None:
    for n in range(9):
        await store.sessions.create(f"s{n}")
    page = await store.sessions.list(limit=3)
    for session in page.sessions:
        await store.sessions.delete(session.session_id)
    listed = await _ids(store, after=page.next, limit=2) if page.next else []
    assert len(listed) == 6


async def test_listings_and_counts_are_filtered(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    begin = clock.time
    await store.sessions.create("a1", owner="alice", tenant="acme")
    clock.advance(minutes=1)
    await store.sessions.create("a2", owner="alice", tenant="other")
    clock.advance(minutes=1)
    await store.sessions.create("b1", owner="bob", tenant="acme")
    await store.sessions.close("a2")
    filters: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["a1", "a2", "b1"]),
        ({"owner": "alice"}, ["a1", "a2"]),
        ({"tenant": "acme"}, ["a1", "b1"]),
        ({"status": "open"}, ["a1", "b1"]),
        ({"status": "closed"}, ["a2"]),
        ({"owner": "alice", "status": "open"}, ["a1"]),
        ({"active_since": begin + timedelta(minutes=1)}, ["a2", "b1"]),
        ({"idle_since": begin + timedelta(minutes=1)}, ["a1"]),
        ({"active_since": begin, "idle_since": begin + timedelta(minutes=2)}, ["a1", "a2"]),
        ({"owner": "Alice"}, []),
        ({"owner": "%"}, []),
    ]
    for which, expected in filters:
        assert (which, await _ids(store, **which)) == (which, expected)
        assert (which, await store.sessions.count(**which)) == (which, len(expected))


async def test_a_moment_may_be_in_any_time_zone_but_needs_one(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.sessions.create("given")
    east = clock.time.astimezone(timezone(timedelta(hours=9)))
    assert await store.sessions.count(active_since=east) == 1
    assert await store.sessions.count(active_since=east + timedelta(microseconds=1)) == 0
    with pytest.raises(InvalidInput, match="time zone"):
        await store.sessions.count(active_since=clock.time.replace(tzinfo=None))


async def test_a_listing_refuses_what_it_cannot_do(store: Store) -> None:
    await store.sessions.create("given")
    with pytest.raises(InvalidInput, match="limit"):
        await store.sessions.list(limit=0)
    with pytest.raises(InvalidInput, match="'open' or 'closed'"):
        await store.sessions.list(status="expired")  # type: ignore[arg-type]
    for forged in ("", "x", "2030-01-01T00:00:00 key", "2030-01-01T00:00:00+00:00", "2030-01-01T00:00:00+00:00 a\0"):
        with pytest.raises(InvalidInput, match="next"):
            await store.sessions.list(after=forged)


# The limit


async def test_the_store_holds_no_more_open_sessions_than_allowed(shared_database: Database) -> None:
    nodes = [await shared_database.open(max_sessions=10) for _ in range(2)]
    calls = [nodes[n % 2].sessions.create() for n in range(50)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, SessionLimitReached) for result in results].count(True) == 40
    assert not [r for r in results if isinstance(r, BaseException) and not isinstance(r, SessionLimitReached)]
    assert await nodes[0].sessions.count(status="open") == 10


async def test_the_limit_holds_within_one_node(database: Database) -> None:
    store = await database.open(max_sessions=3)
    results = await asyncio.gather(*(store.sessions.create() for _ in range(50)), return_exceptions=True)
    assert [isinstance(result, SessionLimitReached) for result in results].count(True) == 47


async def test_a_session_that_ends_makes_room(database: Database, clock: Clock) -> None:
    store = await database.open(max_sessions=2, clock=clock, session_ttl=60)
    await store.sessions.create("a")
    await store.sessions.create("b")
    with pytest.raises(SessionLimitReached, match="max_sessions"):
        await store.sessions.create("c")
    await store.sessions.close("a")
    await store.sessions.create("c")
    await store.sessions.delete("b")
    await store.sessions.create("d")
    with pytest.raises(SessionLimitReached):
        await store.sessions.create("e")
    clock.advance(seconds=61)
    await store.sessions.create("e")


# What is refused


REFUSED: list[dict[str, Any]] = [
    {"owner": "nul\0"},
    {"owner": "x" * 256},
    {"tenant": "\ud800"},
    {"protocol_version": "\0"},
    {"client_info": float("nan")},
    {"client_info": {1: "int key"}},
    {"handshake": ("a", "tuple")},
    {"metadata": {"bytes": b"x"}},
    {"metadata": ["no", "mapping"]},
    {"metadata": {1: "int key"}},
]


async def test_what_cannot_be_kept_with_a_session_is_refused(store: Store) -> None:
    await store.sessions.create("given", **GIVEN)
    for values in REFUSED:
        with pytest.raises(InvalidInput):
            await store.sessions.create("refused", **values)
        with pytest.raises(InvalidInput):
            await store.sessions.update("given", **values)
    kept = await store.sessions.get("given")
    assert {name: getattr(kept, name) for name in GIVEN} == GIVEN
    assert await _ids(store) == ["given"]


async def test_metadata_over_the_limit_is_refused(database: Database) -> None:
    store = await database.open(max_state_bytes=100)
    with pytest.raises(TooLarge):
        await store.sessions.create("given", metadata={"x": "y" * 100})
    await store.sessions.create("given", metadata={"x": "y" * 90})


async def test_a_session_id_is_visible_ascii(store: Store) -> None:
    refused: list[Any] = ["", " ", "a b", "a\n", "a\0", "ä", "x" * 256, "\x7f", "\ud800", None, 1]
    calls: list[Callable[[Any], Awaitable[object]]] = [
        store.sessions.get,
        store.sessions.touch,
        store.sessions.close,
        store.sessions.delete,
        store.delete_events,
        lambda session_id: store.append(session_id, "1", "x"),
        lambda session_id: store.read(session_id, stream_id="1"),
        lambda session_id: store.stream(session_id, "1"),
    ]
    for session_id in refused:
        for call in calls:
            with pytest.raises(InvalidInput, match="session id"):
                await call(session_id)
        with pytest.raises(InvalidInput, match="session id"):
            store.state(session_id)
        with pytest.raises(InvalidInput, match="session id"):
            store.claim(session_id, "1")
    for session_id in refused[:-2]:
        with pytest.raises(InvalidInput, match="session id"):
            await store.sessions.create(session_id)


async def test_every_session_id_that_the_specification_allows_is_taken(store: Store) -> None:
    for session_id in ("".join(map(chr, range(0x21, 0x7F))), "x" * 255, "~", "';DROP/**/TABLE/**/mcp_sessions;--"):
        made = await store.sessions.create(session_id)
        assert (await store.sessions.get(session_id)).session_id == made.session_id == session_id


# Handshakes that several amend


async def test_a_handshake_that_several_amend_at_once_has_every_change(store: Store) -> None:
    session = (await store.sessions.create(handshake=[])).session_id
    amended = [store.sessions.amend_handshake(session, lambda now, n=n: [*now, n]) for n in range(10)]
    await asyncio.gather(*amended)
    assert sorted((await store.sessions.get(session)).handshake) == list(range(10))


async def test_a_handshake_that_was_never_recorded_can_be_amended(store: Store) -> None:
    session = (await store.sessions.create()).session_id
    assert (await store.sessions.amend_handshake(session, lambda now: {"was": now})).handshake == {"was": None}


async def test_only_an_open_session_is_open_and_can_be_amended(store: Store) -> None:
    assert not await store.sessions.is_open("unknown")
    session = (await store.sessions.create()).session_id
    assert await store.sessions.is_open(session)
    other = (await store.sessions.create()).session_id
    assert await store.sessions.are_open(["unknown", session, other]) == {session, other}
    await store.sessions.close(session)
    assert not await store.sessions.is_open(session)
    assert await store.sessions.are_open([session, other]) == {other}
    assert await store.sessions.are_open([]) == set()
    with pytest.raises(SessionNotFound):
        await store.sessions.amend_handshake(session, lambda now: now)
