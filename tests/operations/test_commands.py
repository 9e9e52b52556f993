"""The commands of whoever operates a store, as processes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_persist_sa import Store
from mcp_persist_sa.dsn import ENVIRONMENT
from tests.contract.support import PATIENCE, Clock, fill
from tests.databases import Database
from tests.operations.support import COMMAND, Said, begin


@pytest.fixture
async def store(distinct_database: Database) -> Store:
    """A store with a session whose client is not to be trusted."""
    store = await distinct_database.open()
    await store.sessions.create("session", owner="alice", client_info={"name": "\x1b[31mred", "version": "1"})
    await fill(store, "session", "1", 3)
    await store.append("session", "2", "\x1b]0;title\x07", final=True)
    return store


async def test_sessions_are_listed_and_shown(store: Store, run: Callable[..., asyncio.Future[Said]]) -> None:
    await store.sessions.create("other", owner="bob", tenant="t")
    listed = await run("sessions", "list", "--json")
    assert (listed.code, listed.errors) == (0, "")
    assert [line["session_id"] for line in listed.lines] == ["session", "other"]
    assert [line["session_id"] for line in (await run("sessions", "list", "--owner", "bob", "--json")).lines] == [
        "other"
    ]
    plain = await run("sessions", "list")
    assert plain.out.splitlines()[0].split()[:3] == ["session", "id", "status"]
    assert "\x1b" not in plain.out
    first = await run("sessions", "list", "--limit", "1", "--json")
    place = re.search(r"--after '(.*)'", first.errors)
    assert place is not None
    assert [line["session_id"] for line in (await run("sessions", "list", "--after", place[1], "--json")).lines] == [
        "other"
    ]
    shown = (await run("sessions", "show", "session", "--json")).lines[0]
    assert shown["status"] == "open"
    assert len(shown["streams"]) == 2  # pyright: ignore[reportArgumentType]
    assert "\x1b" not in (await run("sessions", "show", "session")).out


async def test_events_are_printed(store: Store, run: Callable[..., asyncio.Future[Said]]) -> None:
    events = (await run("sessions", "events", "session", "--stream", "1", "--json")).lines
    assert [event["message"] for event in events] == ["1", "2", "3"]
    rest = await run("sessions", "events", "session", "--after", str(events[0]["event_id"]), "--json")
    assert [event["message"] for event in rest.lines] == ["2", "3"]
    assert "\x1b" not in (await run("sessions", "events", "session", "--stream", "2")).out


async def test_a_stream_is_followed_until_its_session_is_closed(
    store: Store, run: Callable[..., asyncio.Future[Said]], distinct_database: Database, tmp_path: Path
) -> None:
    words = ("sessions", "tail", "session", "--stream", "1", "--json")
    child = await begin(*words, dsn=distinct_database.dsn, folder=tmp_path)
    assert child.stdout is not None

    async def heard() -> object:
        assert child.stdout is not None
        return json.loads(await asyncio.wait_for(child.stdout.readline(), PATIENCE))["message"]

    assert [await heard() for _ in range(3)] == ["1", "2", "3"]
    await store.append("session", "1", "live")
    assert await heard() == "live"
    closed = await run("sessions", "close", "session", "--json")
    assert (closed.code, closed.lines) == (0, [{"closed": True}])
    assert await asyncio.wait_for(child.communicate(), PATIENCE) == (b"", b"")
    assert child.returncode == 0
    assert not await store.sessions.is_open("session")
    assert "was not open" in (await run("sessions", "close", "session")).out


async def test_a_session_is_deleted_when_that_is_confirmed(
    store: Store, run: Callable[..., asyncio.Future[Said]]
) -> None:
    assert (await run("sessions", "delete", "session")).code == 1
    assert await store.sessions.is_open("session")
    deleted = await run("sessions", "delete", "session", "--yes", "--json")
    assert deleted.lines == [{"sessions": 1, "streams": 2, "events": 4, "state": 0}]
    gone = await run("sessions", "show", "session")
    assert (gone.code, gone.out) == (1, "")
    assert "no such session" in gone.errors


async def test_stats_are_told(store: Store, run: Callable[..., asyncio.Future[Said]]) -> None:
    stats = (await run("stats", "--json", "--exact")).lines[0]
    assert (stats["sessions"], stats["events"], stats["streams"]) == (1, 4, 2)
    assert stats["largest"] == [{"session_id": "session", "streams": 2, "events": 4}]
    plain = await run("stats")
    assert re.search(r"^sessions open +1$", plain.out, re.MULTILINE)


async def test_what_a_purge_would_remove_is_counted_and_left(
    distinct_database: Database, run: Callable[..., asyncio.Future[Said]]
) -> None:
    past = Clock()
    past.advance(days=-3650)
    store = await distinct_database.open(clock=past)
    await store.sessions.create("session")
    await fill(store, "session", "1", 3)
    gone = {"sessions": 1, "streams": 1, "events": 3, "state": 0}
    for words in (["--dry-run"], []):
        assert (await run("purge", "--json", *words)).lines == [gone]
    assert (await run("purge", "--json", "--dry-run")).lines == [dict.fromkeys(gone, 0)]


async def test_the_doctor_ends_with_1_if_something_is_wrong(
    store: Store, run: Callable[..., asyncio.Future[Said]]
) -> None:
    well = await run("doctor", "--json")
    assert (well.code, well.errors) == (0, "")
    assert {line["check"] for line in well.lines} >= {"connection", "rights", "hearing"}
    ill = await run("doctor", dsn="postgresql://user:hunter2@127.0.0.1:1/db")
    assert (ill.code, ill.errors) == (1, "")
    assert re.search(r"^wrong +connection", ill.out, re.MULTILINE)
    assert "hunter2" not in ill.out


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


READING = [
    ["doctor"],
    ["stats"],
    ["purge"],
    ["audit"],
    ["policies", "list"],
    ["sessions", "list"],
    ["sessions", "tail", "x", "--stream", "1"],
]


@pytest.mark.parametrize("words", READING, ids=" ".join)
async def test_a_file_that_is_not_there_is_not_made(words: list[str], tmp_path: Path) -> None:
    for dsn, reason in ((f"sqlite:///{tmp_path / 'typo.db'}", "does not exist"), ("sqlite://", "in memory")):
        child = await begin(*words, dsn=dsn, folder=tmp_path)
        out, errors = await asyncio.wait_for(child.communicate(), 3 * PATIENCE)
        assert (child.returncode, out) == (1, b"")
        assert errors.decode().startswith("Error: ")
        assert reason in errors.decode()
    assert names_in(tmp_path) == []


async def test_a_terminal_gets_a_table(store: Store, distinct_database: Database, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, ENVIRONMENT: distinct_database.dsn, "TERM": "xterm", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    child = await asyncio.create_subprocess_exec(
        COMMAND, "sessions", "list", env=environment, cwd=tmp_path, stdout=theirs, stderr=theirs
    )
    assert await asyncio.wait_for(child.wait(), 3 * PATIENCE) == 0
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b[1m" in shown  # The head is bold;
    assert "\x1b[31m" not in shown  # what a client sends has no say.
    assert "alice" in shown
