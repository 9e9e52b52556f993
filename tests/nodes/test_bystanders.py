"""What is no concern of durable sessions is answered as the bare SDK answers it, whichever node is asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tests.nodes.client import CURRENT, Client, Response
from tests.nodes.cluster import Cluster
from tests.nodes.conftest import Started
from tests.nodes.frames import answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

PING = {"jsonrpc": "2.0", "id": "ping", "method": "ping"}
UNKNOWN_VERSION = {"mcp_protocol_version": "1999-01-01"}
HANDSHAKE = {"protocolVersion": CURRENT, "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}

REQUESTS: dict[str, Callable[[Client], Awaitable[Response]]] = {
    "get with any type": lambda client: client.open_get(accept="*/*"),
    "get with any text": lambda client: client.open_get(accept="text/*"),
    "get in capitals": lambda client: client.open_get(accept="TEXT/EVENT-STREAM"),
    "get with a parameter": lambda client: client.open_get(accept="text/event-stream;q=0.9"),
    "get without a type": lambda client: client.open_get(accept=""),
    "get with json": lambda client: client.open_get(accept="application/json"),
    "get of an unknown version": lambda client: client.open_get(**UNKNOWN_VERSION),
    "get without a version": lambda client: client.open_get(mcp_protocol_version=""),
    "get without a session": lambda client: client.open_get(mcp_session_id=""),
    "get with an evil host": lambda client: client.open_get(host="evil.example"),
    "get with an evil origin": lambda client: client.open_get(origin="http://evil.example"),
    "get without a session and with an evil host": lambda client: client.open_get(mcp_session_id="", host="evil"),
    "delete without a session": lambda client: client.send("DELETE", headers={"mcp_session_id": ""}),
    "delete of an unknown version": lambda client: client.send("DELETE", headers=UNKNOWN_VERSION),
    "put": lambda client: client.send("PUT"),
    "patch": lambda client: client.send("PATCH"),
    "options": lambda client: client.send("OPTIONS"),
    "post of no json": lambda client: client.post(b"{"),
    "post of no utf-8": lambda client: client.post(b'"\xff"'),
    "post of nothing": lambda client: client.post(b""),
    "post of a batch": lambda client: client.post(b"[]"),
    "post of no message": lambda client: client.post(b"{}"),
    "post of deep json": lambda client: client.post(b"[" * 20_000),
    "post of text": lambda client: client.post(PING, content_type="text/plain"),
    "post that accepts json only": lambda client: client.post(PING, accept="application/json"),
    "post that accepts sse only": lambda client: client.post(PING, accept="text/event-stream"),
    "post that accepts anything": lambda client: client.post(PING, accept="*/*"),
    "post of an unknown version": lambda client: client.post(PING, **UNKNOWN_VERSION),
    "post without a session": lambda client: client.post(PING, mcp_session_id=""),
    "post of too much": lambda client: client.post(b"", content_length=str(5 * 2**20)),
    "a ping": lambda client: client.post(PING),
    "an unknown method": lambda client: client.request("no/such/method", id="unknown"),
    "an unknown tool": lambda client: client.call("no_such_tool", id="unknown"),
    "an answer that nobody waits for": lambda client: client.respond({"id": "nobody"}, {}),
    "a cancellation of nothing": lambda client: client.notify("notifications/cancelled", {"requestId": "nothing"}),
    "a second handshake": lambda client: client.request("initialize", HANDSHAKE, "again"),
}


async def test_odd_requests_are_answered_as_the_bare_sdk_answers_them(cluster: Cluster, started: Started) -> None:
    bare = await started.node(cluster.host)
    for name, send in REQUESTS.items():
        plain = await started.client(bare)
        await plain.initialize()
        expected = await answer(await send(plain))
        for node in cluster.nodes:
            # Opened on one node and, for the other, adopted.
            durable = await cluster.session(cluster.a)
            at = cluster.same(durable, node)
            response = await send(at)
            assert await answer(response) == expected, (name, node.name)
            # One without a session is refused under the id of a session that never was.
            if "without a session" not in name:
                assert response.head.get("mcp-session-id") in (None, durable.session_id), (name, node.name)
            assert await at.result("echo", text="still there") == "still there", (name, node.name)


async def test_other_paths_are_the_apps_own(cluster: Cluster, started: Started) -> None:
    plain = await started.client(await started.node(cluster.host))
    for path in ("/", "/mcp/", "/mcp/x", "/other"):
        for method in ("GET", "POST", "DELETE"):
            plain.path = path
            expected = await answer(await plain.send(method))
            for node in cluster.nodes:
                client = cluster.client(node)
                client.path = path
                assert (await answer(await client.send(method))).status == expected.status, (method, path)
