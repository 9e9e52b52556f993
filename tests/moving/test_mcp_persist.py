"""What mcp-persist kept is imported, and its clients go on with the event ids that they have."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer
from starlette.types import Message

from mcp_persist_sa import Event, InvalidDSN, SchemaMissing, Store, StoreUnavailable, UnknownEvent, persist
from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.operations import copy, import_mcp_persist
from tests.contract.support import Clock, messages, rest, to_the_end
from tests.databases import Database
from tests.moving.conftest import PATIENCE, Run
from tests.moving.mcp_persist import ANSWER, HANDSHAKE, ONE, OTHER, THEN, Old
from tests.moving.support import contents, keys
from tests.test_integrations import scope


def _progress(n: int) -> str:
    return f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{n}}}}}'


async def _fill(old: Old) -> None:
    """Two sessions whose events are mixed, as all are numbered in one row; one call has no answer."""
    await old.create()
    owner = json.dumps({"client_id": "alice", "issuer": None, "subject": None})
    await old.add_session(ONE, owner=owner, handshake=json.dumps(HANDSHAKE), tenant_id="t")
    await old.add_session(OTHER, terminated=1 if old.kind == "sqlite" else True)
    await old.add(10, f"{ONE}:7", "")
    await old.add(11, f"{OTHER}:7", _progress(0))
    for n in range(12, 20):
        await old.add(n, f"{ONE}:7", _progress(n))
    await old.add(20, f"{ONE}:_GET_stream", _progress(20))
    await old.add(21, f"{ONE}:7", ANSWER)
    await old.add(22, f"{ONE}:_GET_stream", _progress(22))


async def test_sessions_and_events_are_imported(old: Old, new: Database, clock: Clock) -> None:
    await _fill(old)
    store = await new.open(clock=clock)
    for _ in range(2):
        moved = await import_mcp_persist(old.dsn, store, batch_size=3)
        assert (moved.failures, moved.sessions, moved.seen) == ({}, 2, 2)
        assert len(await keys(store)) == 2
    session = await store.sessions.get(ONE)
    assert (session.owner, session.tenant, session.protocol_version) == ("alice", "t", "2025-11-25")
    assert (session.client_info, session.handshake) == (HANDSHAKE["clientInfo"], {"initialize": HANDSHAKE})
    assert session.created_at == datetime.fromtimestamp(THEN, timezone.utc)
    assert session.last_seen_at == session.created_at + timedelta(seconds=5)
    assert session.expires_at == clock.time + timedelta(minutes=30)
    assert (await store.sessions.get(OTHER)).status == "closed"
    events = await to_the_end(store, ONE, stream_id="7")
    assert all(isinstance(event, Event) for event in events)
    assert [event.message for event in events if isinstance(event, Event)] == [
        *[None, *map(_progress, range(12, 20))],
        ANSWER,
    ]
    info = await store.stream(ONE, "7")
    assert (info.finished, info.last_sequence) == (True, 10)


async def test_a_client_goes_on_with_the_id_that_it_has(old: Old, new: Database, clock: Clock) -> None:
    await _fill(old)
    store = await new.open(clock=clock)
    await import_mcp_persist(old.dsn, store)
    assert messages(await store.read(ONE, after="17")) == [_progress(18), _progress(19), ANSWER]
    assert [item.message for item in await rest(store.tail(ONE, after="19"))] == [ANSWER]
    assert messages(await store.read(ONE, after="20")) == [_progress(22)]
    assert messages(await store.read_before(ONE, "12")) == [None]
    later = await store.append(ONE, "_GET_stream", "later")
    page = await store.read(ONE, after="22")
    assert (messages(page), page.event_id) == (["later"], later)
    for unknown in ("11", "1", "23", "0", "-1", "1" * 15, "9" * 30, "\u0661"):
        with pytest.raises(UnknownEvent):
            await store.read(ONE, after=unknown)
        with pytest.raises(UnknownEvent):
            await rest(store.tail(ONE, after=unknown))


async def _get(app: Any, session_id: str, last_event_id: str) -> tuple[int, str]:
    """The status of a GET, and its body to the end."""
    headers = {"accept": "text/event-stream", "mcp-session-id": session_id, "last-event-id": last_event_id}
    found: list[Message] = []

    async def send(message: Message) -> None:
        found.append(message)

    given = [*scope()["headers"], *((name.encode(), value.encode()) for name, value in headers.items())]
    request = app({**scope(), "method": "GET", "headers": given}, asgi.receiving(b""), send)
    await asyncio.wait_for(request, PATIENCE)
    return found[0]["status"], b"".join(message.get("body", b"") for message in found[1:]).decode()


# sse_starlette leaves the stream open from which it has read the response.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_server_takes_the_session_over_and_goes_on(old: Old, new: Database) -> None:
    await old.create()
    await old.add_session(ONE, handshake=json.dumps(HANDSHAKE))
    for number, payload in enumerate(["", _progress(1), _progress(2), ANSWER], 1):
        await old.add(number, f"{ONE}:7", payload)
    store = await new.open(event_ttl=None)
    await import_mcp_persist(old.dsn, store)
    app = persist(MCPServer("x"), store)
    async with app.router.lifespan_context(app):
        status, body = await _get(app, ONE, "2")
        assert status == 200
        assert re.findall(r"data: (.*?)\r?\n", body) == [_progress(2), ANSWER]
        assert (await _get(app, ONE, "9"))[0] == 400
        assert (await _get(app, OTHER, "2"))[0] == 404
    gc.collect()


async def test_a_call_without_an_answer_is_ended(old: Old, new: Database) -> None:
    await old.create()
    await old.execute(f"INSERT INTO mcp_events (event_id, stream_id, payload, created_at) VALUES (5, '{ONE}:7', '', 0)")
    store = await new.open(event_ttl=None, node_lease=0.5, poll_interval=0.05)
    await import_mcp_persist(old.dsn, store)
    (end,) = await rest(store.tail(ONE, after="5"))
    assert end.final
    assert json.loads(end.message)["id"] == 7
    assert "error" in json.loads(end.message)


async def test_old_ids_go_on_where_the_session_is_copied_to(old: Old, new: Database, clock: Clock) -> None:
    await _fill(old)
    store = await new.open(clock=clock)
    await import_mcp_persist(old.dsn, store)
    async with Store("sqlite://", clock=clock) as target:
        assert (await copy(store, target)).failures == {}
        assert messages(await target.read(ONE, after="19")) == [ANSWER]


async def test_what_was_added_since_is_imported_too(old: Old, new: Database, clock: Clock) -> None:
    await _fill(old)
    store = await new.open(clock=clock)
    await import_mcp_persist(old.dsn, store)
    first = await to_the_end(store, ONE, stream_id="_GET_stream")
    await old.add(30, f"{ONE}:_GET_stream", _progress(30))
    moved = await import_mcp_persist(old.dsn, store)
    assert moved.failures == {}
    assert (await to_the_end(store, ONE, stream_id="_GET_stream"))[:2] == first
    assert messages(await store.read(ONE, after="22")) == [_progress(30)]


async def test_payloads_that_are_packed(old: Old, new: Database, clock: Clock) -> None:
    await old.create()
    packed = "gz:" + base64.b64encode(gzip.compress(_progress(1).encode())).decode()
    await old.add(1, f"{ONE}:7", packed)
    await old.add(2, f"{OTHER}:7", "en:k1:AAAA")
    store = await new.open(clock=clock)
    moved = await import_mcp_persist(old.dsn, store)
    assert messages(await store.read(ONE, stream_id="7")) == [_progress(1)]
    assert [*moved.failures] == [OTHER]
    assert "encrypted" in moved.failures[OTHER]
    assert await contents(store, OTHER) == []


async def test_streams_of_no_session_are_left_out_and_said(old: Old, new: Database, clock: Clock) -> None:
    await old.create()
    await old.add(1, "7", _progress(1))
    await old.add(2, f"{ONE}:7", _progress(2))
    store = await new.open(clock=clock)
    moved = await import_mcp_persist(old.dsn, store)
    assert (moved.failed, moved.events) == (1, 1)
    assert "no session" in moved.failures["7"]


async def test_tables_of_older_releases_and_other_names(old: Old, new: Database, clock: Clock) -> None:
    await old.create("their_events", "their_sessions", old=True)
    await old.add(1, f"{ONE}:7", _progress(1), "their_events")
    store = await new.open(clock=clock)
    with pytest.raises(SchemaMissing, match="mcp_events"):
        await import_mcp_persist(old.dsn, store)
    moved = await import_mcp_persist(old.dsn, store, events_table="their_events", sessions_table="their_sessions")
    assert (moved.failures, moved.events) == ({}, 1)


async def test_what_cannot_begin_is_said(new: Database) -> None:
    store = await new.open()
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await import_mcp_persist("sqlite:///nowhere.db", store)
    with pytest.raises(InvalidDSN, match="Redis"):
        await import_mcp_persist("redis://127.0.0.1:1", store)


async def test_an_import_by_command(old: Old, new: Database, run: Run) -> None:
    await _fill(old)
    done = await asyncio.to_thread(run, "import-mcp-persist", old.dsn, "--dsn", new.dsn, "--json")
    assert (done.code, done.errors, json.loads(done.out)["events"]) == (0, "", 13)
    done = await asyncio.to_thread(run, "import-mcp-persist", "sqlite:///none.db", "--dsn", new.dsn)
    assert (done.code, done.out) == (1, "")
    assert "does not exist" in done.errors
