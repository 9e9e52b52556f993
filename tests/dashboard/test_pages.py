"""What the dashboard shows is what the store holds, on every kind of database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mcp_persist_sa import Store, open_store
from mcp_persist_sa.dashboard import pages, timeline
from mcp_persist_sa.identity import session_key
from tests.contract.support import Clock, fill
from tests.dashboard.serving import Site, served
from tests.databases import Database

SECRET = "hunter2"
PROGRESS = json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"message": SECRET}})
ASKED = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {"message": SECRET}})
RESULT = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": SECRET}})
FAILED = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": SECRET}})


@pytest.fixture
async def store(shared_database: Database) -> Store:
    return await shared_database.open()


@pytest.fixture
async def site(shared_database: Database, store: Store) -> AsyncIterator[Site]:
    async with served(open_store(shared_database.dsn, migrate=False), name="shop") as made:
        yield made


async def ids(site: Site, **asked: str) -> list[str]:
    return [session["id"] for session in (await site.get("api/sessions", **asked)).json["sessions"]]


async def test_the_figures_are_those_of_the_store(site: Site, store: Store) -> None:
    await store.sessions.create("one")
    await store.sessions.create("two")
    await store.sessions.close("two")
    await fill(store, "one", "1", 3, final=True)
    await fill(store, "one", "2", 4)
    async with site.feed() as feed:
        condition = await feed.until("condition")
        figures = await feed.until("figures", lambda told: told["events"] == 7)
        assert (condition["reachable"], condition["error"]) == (True, None)
        stats = await store.stats()
        names = ("sessions", "sessions_open", "streams", "streams_unfinished", "events", "nodes")
        assert {name: figures[name] for name in names} == {name: getattr(stats, name) for name in names}
        assert figures["largest"] == [{"session_id": "one", "streams": 2, "events": 7}]
        await fill(store, "two", "1", 5)
        assert (await feed.until("figures", lambda told: told["events"] == 12))["history"][-1][1] == 12


async def test_sessions_are_shown_the_newest_first_and_found(site: Site, shared_database: Database) -> None:
    clock = Clock()
    store = await shared_database.open(clock=clock, session_ttl=None)
    names = [f"s{number}" for number in range(pages.LISTED + 5)]
    for number, name in enumerate(names):
        client = {"name": "Editor" if number == 7 else "other", "version": "2"}
        await store.sessions.create(name, owner=f"owner {number % 3}", tenant=f"Tenant {number}", client_info=client)
        clock.advance(seconds=1)
    first = (await site.get("api/sessions")).json
    assert [session["id"] for session in first["sessions"]] == names[: -pages.LISTED - 1 : -1]
    assert await ids(site, after=first["next"]) == names[4::-1]
    assert first["sessions"][0]["client"] == "other 2"
    await store.sessions.close("s5")
    found: dict[str, tuple[dict[str, str], list[str]]] = {
        "id": ({"text": "S54"}, ["s54"]),
        "tenant": ({"text": "tenant 12"}, ["s12"]),
        "client": ({"text": "editor"}, ["s7"]),
        "owner": ({"text": "owner 2", "status": "closed"}, ["s5"]),
        "nothing": ({"text": "%"}, []),
    }
    for name, (asked, expected) in found.items():
        assert (name, await ids(site, **asked)) == (name, expected)


async def test_a_search_looks_at_so_many_and_can_be_continued(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LISTED", 2)
    monkeypatch.setattr(pages, "LOOKED_AT", 8)
    for number in range(20):
        await store.sessions.create(f"s{number}", owner="rare" if number == 0 else "often")
    page = (await site.get("api/sessions", text="rare")).json
    assert (page["sessions"], page["looked_at"]) == ([], 8)
    turns = 0
    while not page["sessions"]:
        page = (await site.get("api/sessions", text="rare", after=page["next"])).json
        turns += 1
    assert ([session["id"] for session in page["sessions"]], turns) == (["s0"], 2)
    assert await ids(site, text="s0") == ["s0"], "one whose id is known is found however old it is"


async def write(store: Store) -> None:
    """A session with a stream that has ended, a claimed one with a gap, and one that is open."""
    await store.sessions.create(
        "session", owner="alice", client_info={"name": "c", "version": "1", "x": SECRET}, handshake={"password": SECRET}
    )
    for message in (None, PROGRESS, ASKED):
        await store.append("session", "1", message)
    await store.append("session", "1", RESULT, final=True)
    await store.append("session", "2", FAILED, final=True)
    await store.append("session", "_GET_stream", "no JSON")


def stream(told: Any, name: str) -> Any:
    return next((each for each in told["streams"] if each["name"] == name), None)


async def test_a_session_is_drawn_and_goes_on_to_be(site: Site, store: Store) -> None:
    await write(store)
    async with site.feed("session") as feed:
        told = await feed.until("session")
        assert (told["session"]["owner"], told["session"]["status"]) == ("alice", "open")
        assert told["total"] == {"streams": 3, "events": 6, "more": False}
        points = stream(told, "1")["points"]
        assert [(point[0], *point[2:]) for point in points] == [
            (1, "priming", None, 0, False),
            (2, "notification", "notifications/progress", len(PROGRESS), False),
            (3, "request", "elicitation/create", len(ASKED), False),
            (4, "result", None, len(RESULT), True),
        ]
        assert [point[2:4] for point in stream(told, "2")["points"]] == [["error", "-32603"]]
        assert (stream(told, "1")["finished"], stream(told, "_GET_stream")["finished"]) == (True, False)
        await store.append("session", "_GET_stream", PROGRESS)
        await feed.until("session", lambda told: len(stream(told, "_GET_stream")["points"]) == 2)
        await store.append("session", "3", PROGRESS)
        await feed.until("session", lambda told: stream(told, "3"))
        await store.sessions.close("session")
        await feed.until("session", lambda told: told["session"]["status"] == "closed")
        await store.sessions.delete("session")
        assert "There is no such session" in (await feed.until("gone"))["error"]


async def test_of_a_session_with_many_streams_the_newest_are_drawn(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "DRAWN", 2)
    monkeypatch.setattr(timeline, "NAMED", 3)
    for number in range(5):
        await store.append("never-recorded", str(number), "{}")
    async with site.feed("never-recorded") as feed:
        told = await feed.until("session")
    assert told["session"] is None
    assert [(each["name"], each["points"] is not None) for each in told["streams"]] == [
        ("4", True),
        ("3", True),
        ("2", False),
    ]
    assert told["total"] == {"streams": 5, "events": 5, "more": False}


async def test_events_are_shown_in_pages_the_newest_first(site: Site, store: Store) -> None:
    event_ids = await fill(store, "session", "1", pages.EVENTS + 20)
    key = event_ids[0].split(".")[0]
    first = (await site.get("api/events", session="session", stream=key)).json
    assert [event["id"] for event in first["events"]] == event_ids[: -pages.EVENTS - 1 : -1]
    second = (await site.get("api/events", session="session", stream=key, before=first["before"])).json
    assert [event["id"] for event in second["events"]] == event_ids[19::-1]
    assert second["before"] is None
    other = (await fill(store, "session", "2", 1))[0]
    for asked, status in (
        ({"session": "other", "stream": key}, 404),
        ({"session": "session", "stream": "strange/\0key"}, 404),
        ({"session": "session", "stream": key, "before": other}, 404),
        ({"session": "session", "stream": key, "before": "x"}, 404),
        ({"session": "not an id", "stream": key}, 400),
    ):
        answer = await site.get("api/events", **asked)
        assert (asked, answer.status) == (asked, status)
        assert answer.json["error"]


async def everything(site: Site, store: Store) -> str:
    """All that the dashboard tells of the session."""
    async with site.feed("session") as feed:
        told = [await feed.until("session")]
    async with site.feed() as feed:
        told.append(await feed.until("figures"))
    keys = [info.stream_key async for info in store.streams("session")]
    answers = [await site.get("api/events", session="session", stream=key) for key in keys]
    assert [answer.status for answer in answers] == [200] * 3
    return json.dumps(told) + "".join(answer.text for answer in [*answers, await site.get("api/sessions")])


async def test_what_was_said_is_told_only_where_it_was_asked_for(
    shared_database: Database, site: Site, store: Store
) -> None:
    await write(store)
    assert SECRET not in await everything(site, store)
    async with served(open_store(shared_database.dsn, migrate=False), payloads=True) as open_hearted:
        told = await everything(open_hearted, store)
        assert (await open_hearted.get("api/store")).json == {"name": "", "namespace": "", "payloads": True}
    assert told.count(SECRET) == 6


async def test_whoever_looks_changes_nothing(shared_database: Database, site: Site, store: Store) -> None:
    await write(store)
    key = session_key("", "session")
    before = await store.backend.read_outline(key, after=None, limit=100, max_bytes=1000)
    await everything(site, store)
    assert await store.backend.read_outline(key, after=None, limit=100, max_bytes=1000) == before
    assert (await store.stats()).nodes == 0
