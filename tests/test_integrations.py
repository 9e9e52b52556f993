"""The parts of durable sessions, each by itself; what they do together is tested in `tests/nodes`."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import MCPServer
from mcp_types import JSONRPCNotification, JSONRPCResponse
from starlette.applications import Starlette
from starlette.authentication import SimpleUser, UnauthenticatedUser
from starlette.routing import Mount
from starlette.types import Message, Scope

from mcp_persist_sa import (
    EventStore,
    InvalidOption,
    SessionNotFound,
    StoreClosed,
    StoreUnavailable,
    open_store,
    persist,
    session_id,
    session_state,
)
from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.integrations.adoption import Copies
from mcp_persist_sa.integrations.bounds import within
from mcp_persist_sa.integrations.calls import Copy
from mcp_persist_sa.integrations.permits import LASTS, Permits
from mcp_persist_sa.integrations.sdk import is_stateless_era, principal
from mcp_persist_sa.sessions import Sessions

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}


def scope(path: str = "/mcp") -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:80")],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "http_version": "1.1",
    }


# Options


def test_a_server_is_persisted_that_is_one() -> None:
    for server in ("server", object(), None):
        with pytest.raises(InvalidOption, match="Give an MCPServer"):
            persist(server, "sqlite://")


def test_an_option_that_the_app_does_not_have_is_said() -> None:
    with pytest.raises(InvalidOption, match=r"no option 'retry_intervall'.*retry_interval"):
        persist(MCPServer("x"), "sqlite://", retry_intervall=1)
    with pytest.raises(InvalidOption, match="leave out event_store"):
        persist(MCPServer("x"), "sqlite://", event_store=EventStore())


async def test_an_app_whose_lifespan_does_not_run_says_what_to_add() -> None:
    outer = Starlette(routes=[Mount("/", app=persist(MCPServer("x"), "sqlite://"))])
    with pytest.raises(StoreClosed, match="lifespan"):
        await asgi.request(outer, scope(), "POST", body=INITIALIZE)


async def test_the_app_owns_the_store_of_a_dsn_and_leaves_another_open(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        app = persist(MCPServer("x"), store)
        async with app.router.lifespan_context(app):
            opened = await asgi.request(app, scope(), "POST", body=INITIALIZE)
        assert opened.status == 200
        assert store.is_open
        [session] = [session async for session in store.sessions.all()]
        assert dict(opened.headers)[asgi.SESSION_ID].decode() == session.session_id
        assert session.client_info == {"name": "x", "version": "1"}
    closed = open_store(f"sqlite:///{tmp_path}/x.db")
    app = persist(MCPServer("x"), closed)
    async with app.router.lifespan_context(app):
        assert closed.is_open
    assert not closed.is_open


async def test_no_more_sessions_are_opened_than_the_store_may_hold() -> None:
    app = persist(MCPServer("x"), open_store("sqlite://", max_sessions=1))
    async with app.router.lifespan_context(app):
        assert (await asgi.request(app, scope(), "POST", body=INITIALIZE)).status == 200
        refused = await asgi.request(app, scope(), "POST", body=INITIALIZE)
        assert (refused.status, dict(refused.headers)[b"retry-after"]) == (503, b"1")
        assert b"max_sessions" in refused.messages[-1]["body"]


async def test_after_the_answer_to_a_delete_no_node_takes_requests_not_even_a_busy_one(tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path}/x.db"
    nodes = [persist(MCPServer("x"), dsn) for _ in range(2)]

    async def ping(name: str) -> int:
        body = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        return (await asgi.request(nodes[1], scope(), "POST", session_id=name, body=body)).status

    async def be_busy(name: str, busy: asyncio.Event) -> None:
        while await ping(name) == 200:
            busy.set()

    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.router.lifespan_context(node))
        for _ in range(3):
            opened = await asgi.request(nodes[0], scope(), "POST", body=INITIALIZE)
            name = dict(opened.headers)[asgi.SESSION_ID].decode()
            busy = asyncio.Event()
            other = asyncio.create_task(be_busy(name, busy))
            await busy.wait()
            assert (await asgi.request(nodes[0], scope(), "DELETE", session_id=name)).status == 200
            assert await ping(name) == 404
            await other


async def test_sessions_that_need_leave_ask_the_store_together_and_before_it_has_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    are_open, asked = Sessions.are_open, asyncio.Queue[set[str]]()

    async def counted(sessions: Sessions, session_ids: set[str]) -> set[str]:
        asked.put_nowait({*session_ids})
        return await are_open(sessions, session_ids)

    monkeypatch.setattr(Sessions, "are_open", counted)
    async with open_store("sqlite://") as store:
        names = [(await store.sessions.create()).session_id for _ in range(5)]
        await store.sessions.close(names[0])
        copies = [Copy(store, name, None, scope()) for name in names]
        permits = Permits(store, patience=60)
        assert await asyncio.gather(*map(permits.given, copies)) == [False, True, True, True, True]
        assert asked.get_nowait() == {*names}
        for copy in copies:
            copy.permitted_until = time.monotonic() + 3600
        assert all(await asyncio.gather(*map(permits.given, copies)))
        assert asked.empty()
        copies[1].permitted_until = time.monotonic() + LASTS / 4
        assert await permits.given(copies[1])
        assert await asyncio.wait_for(asked.get(), 30) == {*names}
        await permits.close()


async def test_who_waits_for_a_copy_to_be_made_is_refused_if_the_session_was_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = f"sqlite:///{tmp_path}/x.db"
    nodes = [persist(MCPServer("x"), dsn) for _ in range(2)]
    looked, go_on = asyncio.Event(), asyncio.Event()
    say = Copies.say

    async def slowly(copies: Copies, *given: Any) -> asgi.Exchange:
        looked.set()
        await go_on.wait()
        return await say(copies, *given)

    monkeypatch.setattr(Copies, "say", slowly)
    async with AsyncExitStack() as stack:
        for node in nodes:
            await stack.enter_async_context(node.router.lifespan_context(node))
        opened = await asgi.request(nodes[0], scope(), "POST", body=INITIALIZE)
        name = dict(opened.headers)[asgi.SESSION_ID].decode()
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        first = asyncio.ensure_future(asgi.request(nodes[1], scope(), "POST", session_id=name, body=ping))
        await looked.wait()
        assert (await asgi.request(nodes[0], scope(), "DELETE", session_id=name)).status == 200
        second = asyncio.ensure_future(asgi.request(nodes[1], scope(), "POST", session_id=name, body=ping))
        # It comes as far as it can.
        await asyncio.wait({second}, timeout=0.1)
        go_on.set()
        assert (await second).status == 404
        await first


async def test_what_comes_after_the_answer_keeps_no_session_busy() -> None:
    async with open_store("sqlite://") as store:
        for json_response in (True, False):
            copy = Copy(store, f"session {json_response}".replace(" ", "-"), None, scope(), json_response=json_response)
            call = copy.begin({"jsonrpc": "2.0", "id": 7, "method": "tools/call"})
            assert call is not None
            assert copy.busy
            copy.store_event("7", JSONRPCNotification(jsonrpc="2.0", method="notifications/progress"))
            # The client is gone before the answer.
            copy.detach(call, refused=False)
            assert copy.busy
            copy.store_event("7", JSONRPCResponse(jsonrpc="2.0", id=7, result={}))
            assert not copy.busy
            assert copy.store_event("7", JSONRPCNotification(jsonrpc="2.0", method="notifications/progress")) == ""
            assert not copy.busy


@pytest.mark.parametrize("params", [{}, {"params": None}, {"params": []}], ids=str)
async def test_a_handshake_without_parameters_breaks_nothing(params: dict[str, Any]) -> None:
    app = persist(MCPServer("x"), "sqlite://")
    async with app.router.lifespan_context(app):
        bad = {"jsonrpc": "2.0", "id": 1, "method": "initialize", **params}
        said = await asgi.request(app, scope(), "POST", body=bad)
        assert said.status in (200, 400)
        assert b"error" in b"".join(message.get("body", b"") for message in said.messages)
        assert (await asgi.request(app, scope(), "POST", body=INITIALIZE)).status == 200


# Without the layer


async def test_an_event_store_without_the_layer_stores_nothing_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_store("sqlite://") as store:
        events = EventStore()
        with caplog.at_level(logging.ERROR):
            assert [await events.store_event("1", None) for _ in range(3)] == [""] * 3
            assert await events.replay_events_after("x", print) is None
        assert len([record for record in caplog.records if "NOTHING IS STORED" in record.message]) == 1
        assert await store.sessions.count() == 0


def test_there_is_no_session_outside_of_a_request() -> None:
    with pytest.raises(SessionNotFound, match=r"store\.state\(handle\)"):
        session_state()
    with pytest.raises(SessionNotFound):
        session_id()


# Principals


def _user(client_id: str, **claims: Any) -> AuthenticatedUser:
    return AuthenticatedUser(AccessToken(token="t", client_id=client_id, scopes=[], **claims))


def test_principals_are_the_same_when_client_issuer_and_subject_are() -> None:
    users = [
        _user("a"),
        _user("b"),
        _user("a", subject="s"),
        _user("a", subject="t"),
        _user('["a", null, "s"]'),
        _user("a" * 300),
        _user("a" * 301),
        SimpleUser("someone"),
    ]
    names = [principal(user) for user in users]
    assert len({*names}) == len(users)
    assert names[0] == "a"
    assert all(name is not None and len(name) <= 255 for name in names)
    assert principal(_user("a", subject="s")) == names[2]
    assert principal(None) is None
    assert principal(UnauthenticatedUser()) is None


def test_only_versions_without_a_handshake_are_of_the_stateless_era() -> None:
    assert not any(is_stateless_era(version) for version in (None, "2024-11-05", "2025-06-18", "2025-11-25"))
    assert is_stateless_era("2026-07-28")


# Bounds and bodies


async def test_what_takes_too_long_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="within 0"):
        async with within(0):
            await asyncio.Event().wait()
    async with within(3600):
        pass


async def test_a_body_is_seen_once_and_can_be_read_again() -> None:
    parts: list[Message] = [
        {"type": "http.request", "body": b'{"method":', "more_body": True},
        {"type": "http.request", "body": b'"ping"}', "more_body": False},
    ]
    coming, seen = iter(parts), list[Any]()

    async def receive() -> Message:
        return next(coming)

    async def whole(message: Any) -> None:
        seen.append(message)

    body = asgi.Body(receive, whole, most=100)
    await body.peek(None)
    assert [await body(), await body()] == parts
    body.again()
    assert [await body(), await body()] == parts
    assert seen == [{"method": "ping"}]
    assert json.loads(b"".join(part["body"] for part in parts)) == body.json()


async def test_a_body_is_understood_as_the_sdk_understands_it() -> None:
    message = {"method": "initialize", "params": {}}

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(message).encode("utf-16"), "more_body": False}

    async def whole(_: Any) -> None:
        """Not of interest."""

    body = asgi.Body(receive, whole, most=1000)
    await body()
    assert body.json() == message
