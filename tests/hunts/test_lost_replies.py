"""The server has done it, and its reply is lost: the store tries again, and it has happened once all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from mcp_persist_sa import NewEvent, OutcomeUnknown, Store
from mcp_persist_sa.identity import session_key
from tests.contract.support import execute
from tests.hunts.conftest import Proxied
from tests.hunts.support import (
    HUNT,
    PATIENCE,
    Pools,
    bounded,
    check_nothing_left,
    check_once,
    check_order,
    check_streams,
    stored_rows,
)
from tests.servers import FaultProxy, contains

CUTS = [1, 3]
MARK = "to-be-cut"
COMMIT = "COMMIT;"
"""As the driver sends it; `BEGIN ISOLATION LEVEL READ COMMITTED` is none."""


async def carried_out(cut: asyncio.Event) -> None:
    """Make sure that the replies were lost."""
    await asyncio.wait_for(cut.wait(), PATIENCE)


@pytest.mark.parametrize("cuts", CUTS)
async def test_an_event_whose_reply_is_lost_is_stored_once(proxied: Proxied, pools: Pools, cuts: int) -> None:
    store = await proxied.database.open()
    before = await store.append("session", "1", "before")
    cut = proxied.proxy.cut_after_request(contains(MARK.encode()), cuts)
    event_id = await store.append("session", "1", MARK)
    await carried_out(cut)
    after = await store.append("session", "1", "after")
    rows = await stored_rows(proxied.direct)
    assert [(row.event_id, row.message) for row in rows] == [(before, "before"), (event_id, MARK), (after, "after")]
    check_streams(rows)
    await check_nothing_left(proxied.direct, pools)


@pytest.mark.parametrize("lost", [MARK, COMMIT])
@pytest.mark.parametrize("cuts", CUTS)
async def test_events_with_a_final_one_whose_reply_is_lost_are_stored_once(
    proxied: Proxied, cuts: int, lost: str
) -> None:
    store = await proxied.database.open()
    await store.append("session", "1", "before")
    cut = proxied.proxy.cut_after_request(contains(lost.encode()), cuts)
    events = [NewEvent(f"{MARK} {n}", n == 2) for n in range(3)]
    ids = await store.append_many("session", "1", events)
    await carried_out(cut)
    await store.append("session", "1", "of the next stream")
    rows = await stored_rows(proxied.direct)
    check_streams(rows)
    check_once(rows, dict(zip(ids, [event.message or "" for event in events], strict=True)))
    assert sorted(Counter(row.stream_key for row in rows).values()) == [1, 4]


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("final", [False, True])
async def test_claimed_events_whose_reply_is_lost_are_stored_once(proxied: Proxied, cuts: int, final: bool) -> None:
    store = await proxied.database.open()
    cut = proxied.proxy.cut_after_request(contains(MARK.encode()), cuts)
    writer = store.claim("session", "1")
    receipts = [writer.append(f"{MARK} {n}", final=final and n == 4) for n in range(5)]
    acknowledged = {await receipt.durable(): f"{MARK} {n}" for n, receipt in enumerate(receipts)}
    await carried_out(cut)
    if not final:
        acknowledged[await writer.append("more").durable()] = "more"
    rows = await stored_rows(proxied.direct)
    assert {row.event_id: row.message for row in rows} == acknowledged
    assert (await store.stream("session", "1")).finished == final
    check_streams(rows)


# Many callers at once


async def _caller(store: Store, number: int, rng: Random) -> dict[str, str]:
    """One of many, which writes in one of four ways, three times."""
    acknowledged: dict[str, str] = {}
    for turn in range(3):
        texts = [f"caller-{number}/{10 * turn + n}" for n in range(rng.randrange(1, 4))]
        final = rng.random() < 0.3
        if number % 2:
            writer = store.claim("session", f"own-{number}-{turn}")
            receipts = [writer.append(text, final=final and text is texts[-1]) for text in texts]
            ids = [await receipt.durable() for receipt in receipts]
        else:
            events = [NewEvent(text, final and text is texts[-1]) for text in texts]
            ids = await store.append_many("session", f"shared-{number % 6}", events)
        acknowledged |= dict(zip(ids, texts, strict=True))
    return acknowledged


def _now_and_then(proxy: FaultProxy, rng: Random, count: int) -> asyncio.Event:
    """Lose the replies to some of the requests that carry events or end a transaction."""

    def chosen(request: bytes) -> bool:
        return (b"caller-" in request or COMMIT.encode() in request) and rng.random() < 0.2

    return proxy.cut_after_request(chosen, count)


@pytest.mark.parametrize("run", range(10 * HUNT))
async def test_what_many_callers_write_at_once_is_stored_once_however_many_replies_are_lost(
    proxied: Proxied, rng: Random, pools: Pools, run: int
) -> None:
    store = await proxied.database.open(timeout=60)
    cut = _now_and_then(proxied.proxy, rng, 1000)
    results = await asyncio.gather(*(_caller(store, number, rng) for number in range(50)))
    acknowledged = {event_id: text for result in results for event_id, text in result.items()}
    assert proxied.proxy.accepted > 2
    assert not cut.is_set()
    rows = await stored_rows(proxied.direct)
    check_streams(rows)
    check_once(rows, acknowledged, acknowledged.values())
    check_order(rows)
    assert len(rows) == len(acknowledged)
    await check_nothing_left(proxied.direct, pools)
    print(f"{len(rows)} events over {proxied.proxy.accepted} connections")


# Sessions and state


@pytest.mark.parametrize("cuts", CUTS)
async def test_a_session_whose_reply_is_lost_is_recorded_once(proxied: Proxied, cuts: int) -> None:
    store = await proxied.database.open()
    cut = proxied.proxy.cut_after_request(contains(MARK.encode()), cuts)
    session = await store.sessions.create(owner=MARK)
    await carried_out(cut)
    assert await execute(proxied.direct, "SELECT session_id FROM mcp_sessions") == [(session.session_id,)]


async def test_the_last_session_that_there_is_room_for_is_recorded_although_the_reply_is_lost(
    proxied: Proxied,
) -> None:
    store = await proxied.database.open(max_sessions=1)
    cut = proxied.proxy.cut_after_request(contains(COMMIT.encode()))
    session = await store.sessions.create(owner=MARK)
    await carried_out(cut)
    assert await execute(proxied.direct, "SELECT session_id FROM mcp_sessions") == [(session.session_id,)]


async def test_a_session_with_an_id_of_the_caller_s_is_recorded_once_and_the_loss_is_told(proxied: Proxied) -> None:
    """The store cannot tell its own session from one that another caller gave the same id."""
    store = await proxied.database.open()
    cut = proxied.proxy.cut_after_request(contains(MARK.encode()))
    with pytest.raises(OutcomeUnknown):
        await store.sessions.create("mine", owner=MARK)
    await carried_out(cut)
    assert (await store.sessions.get("mine")).owner == MARK


@pytest.mark.parametrize("cuts", CUTS)
async def test_a_session_is_updated_although_the_reply_is_lost(proxied: Proxied, cuts: int) -> None:
    store = await proxied.database.open()
    await store.sessions.create("session", owner="before")
    cut = proxied.proxy.cut_after_request(contains(MARK.encode()), cuts)
    assert (await store.sessions.update("session", owner=MARK)).owner == MARK
    await carried_out(cut)
    assert await execute(proxied.direct, "SELECT owner FROM mcp_sessions") == [(MARK,)]


@pytest.mark.parametrize("cuts", CUTS)
async def test_each_write_to_the_state_counts_once_although_its_reply_is_lost(proxied: Proxied, cuts: int) -> None:
    store = await proxied.database.open()
    state = store.state("session")

    def change(value: object) -> object:
        assert value == f"{MARK} 2"
        return f"{MARK} 3"

    for version, write in enumerate(
        (
            lambda: state.set("key", f"{MARK} 1"),
            lambda: state.compare_and_set("key", f"{MARK} 2", version=1),
            lambda: state.update("key", change),
        ),
        start=1,
    ):
        cut = proxied.proxy.cut_after_request(contains(f"{MARK} {version}".encode()), cuts)
        await write()
        await carried_out(cut)
        entry = await state.entry("key")
        assert entry is not None
        assert (entry.value, entry.version) == (f"{MARK} {version}", version)


async def test_a_value_that_others_change_after_a_lost_reply_is_not_changed_twice(proxied: Proxied) -> None:
    """The counter was increased, its reply is lost, and another node increases it before the store tries again."""
    store, other = await proxied.database.open(), await proxied.direct.open()

    def increase(value: dict[str, object]) -> dict[str, object]:
        return {"by": MARK, "count": value["count"] + 1}  # type: ignore[operator]

    cut = proxied.proxy.cut_after_request(contains(MARK.encode()))
    counting = asyncio.ensure_future(store.state("session").update("count", increase, {"count": 0}))
    await carried_out(cut)
    proxied.proxy.refuse()
    await other.state("session").update("count", increase, {"count": 0})
    proxied.proxy.pass_through()
    (outcome,) = await bounded(counting)
    final = await other.state("session").get("count")
    assert final["count"] == 2
    assert isinstance(outcome, OutcomeUnknown) or outcome["count"] in (1, 2)


async def test_what_is_removed_is_gone_although_the_reply_is_lost(proxied: Proxied) -> None:
    store = await proxied.database.open()
    for name in ("closed", "deleted"):
        await store.sessions.create(name)
    await store.append("events", "1", "x")
    await store.state("state").set("key", 1)
    await store.state("state").set("other", 1)
    for name, remove in (
        ("closed", lambda: store.sessions.close("closed")),
        ("deleted", lambda: store.sessions.delete("deleted")),
        ("events", lambda: store.delete_events("events")),
        ("state", lambda: store.state("state").delete("key")),
        ("state", lambda: store.state("state").clear()),
    ):
        cut = proxied.proxy.cut_after_request(contains(session_key("", name).encode()))
        await remove()
        await carried_out(cut)
    assert (await store.sessions.get("closed")).status == "closed"
    assert await store.sessions.count() == 1
    assert await stored_rows(proxied.direct) == []
    assert await store.state("state").keys() == []


MARKED_WRITES = {
    "append": lambda store: store.append("session", "1", MARK),
    "append with an end": lambda store: store.append("session", "2", MARK, final=True),
    "sessions.create": lambda store: store.sessions.create(owner=MARK),
    "sessions.update": lambda store: store.sessions.update("session", owner=MARK),
    "state.set": lambda store: store.state("session").set("key", MARK),
    "state.compare_and_set": lambda store: store.state("session").compare_and_set("other", MARK, version=0),
    "state.update": lambda store: store.state("session").update("third", lambda _: MARK),
    "state.delete": lambda store: store.state("session").delete(MARK),
}


@pytest.mark.parametrize("name", MARKED_WRITES)
async def test_a_write_whose_reply_is_lost_for_good_is_not_denied(proxied: Proxied, name: str) -> None:
    """It has happened, and then the server cannot be reached for longer than the caller waits."""
    store = await proxied.database.open(timeout=1)
    await (await proxied.direct.open()).sessions.create("session")
    lost = COMMIT if name.endswith("an end") else MARK

    def lost_for_good(request: bytes) -> bool:
        found = lost.encode() in request
        if found:
            proxied.proxy.refuse()
        return found

    cut = proxied.proxy.cut_after_request(lost_for_good)
    with pytest.raises(OutcomeUnknown):
        await MARKED_WRITES[name](store)
    await carried_out(cut)
