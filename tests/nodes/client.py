"""A client of Streamable HTTP that decides nothing by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from tests.nodes.frames import Frame, Response
from tests.nodes.wire import PATIENCE, CutOff, Head, read_head

CURRENT = "2025-11-25"
"""The newest protocol version with sessions."""

WITHOUT_PRIMING = "2025-06-18"
"""A protocol version whose clients do not know an event without data."""

JSON_TYPE = "application/json"
SSE_TYPE = "text/event-stream"


class Client:
    """One client, at one address: that of a node, or of a balancer.

    Attributes:
        session_id: Sent with every request; None until `initialize` has been answered.
        protocol: The protocol version that the next requests say.
        token: The bearer token, if any.
    """

    def __init__(
        self, address: tuple[str, int], path: str = "/mcp", token: str | None = None, session_id: str | None = None
    ) -> None:
        self.address = address
        self.path = path
        self.token = token
        self.session_id = session_id
        self.protocol: str | None = None
        self._numbers = iter(range(1, 1_000_000))
        self._opened: list[Response] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        for response in self._opened:
            response.cut()

    def at(self, address: tuple[str, int], token: str | None = None) -> Client:
        """The same session seen from another address, or under another token."""
        other = Client(address, self.path, token or self.token, self.session_id)
        other.protocol = self.protocol
        # Request ids are unique in a session, and the responses end with this client.
        other._numbers, other._opened = self._numbers, self._opened
        return other

    async def initialize(
        self, protocol: str = CURRENT, capabilities: Mapping[str, Any] | None = None, *, announce: bool = True
    ) -> dict[str, Any]:
        """Open a session, and say that it is `initialized` unless told otherwise; gives the result."""
        params = {
            "protocolVersion": protocol,
            "capabilities": dict(capabilities or {"elicitation": {}, "sampling": {}, "roots": {}}),
            "clientInfo": {"name": "raw", "version": "1"},
        }
        # What opens a session belongs to none.
        self.session_id = self.protocol = None
        response = await self.request("initialize", params)
        answer = await self.answer_of(response)
        self.session_id = response.head.get("mcp-session-id")
        self.protocol = answer["result"]["protocolVersion"]
        if announce:
            assert (await self.initialized()).status == 202
        return answer["result"]

    async def initialized(self) -> Response:
        return await self.notify("notifications/initialized")

    async def request(
        self, method: str, params: Mapping[str, Any] | None = None, id: str | int | None = None
    ) -> Response:
        """Send a request, and give its answer as soon as the headers are there."""
        number = next(self._numbers) if id is None else id
        return await self.post({"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params or {})})

    async def call(
        self, tool: str, id: str | int | None = None, progress: str | int | None = None, **arguments: Any
    ) -> Response:
        """Call a tool; with a progress token, it reports progress."""
        meta = {} if progress is None else {"_meta": {"progressToken": progress}}
        return await self.request("tools/call", {"name": tool, "arguments": arguments, **meta}, id)

    async def result(self, tool: str, **arguments: Any) -> str:
        """Call a tool and give the text of its result."""
        answer = await self.answer_of(await self.call(tool, **arguments))
        return text_of(answer)

    async def answer_of(self, response: Response) -> dict[str, Any]:
        """The JSON-RPC response that an answer carries as its last message, be it a stream or JSON."""
        assert response.status == 200, (response.head, await response.body())
        if not response.head.is_stream:
            return await response.json()
        return (await response.rest())[-1].message

    async def notify(self, method: str, params: Mapping[str, Any] | None = None) -> Response:
        return await self.post({"jsonrpc": "2.0", "method": method, "params": dict(params or {})})

    async def respond(self, request: Mapping[str, Any], result: Mapping[str, Any]) -> Response:
        """Answer a request of the server."""
        return await self.post({"jsonrpc": "2.0", "id": request["id"], "result": dict(result)})

    async def refuse(self, request: Mapping[str, Any], why: str) -> Response:
        """Answer a request of the server with an error."""
        return await self.post({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -1, "message": why}})

    async def cancel(self, id: str | int) -> Response:
        """Cancel a call."""
        return await self.notify("notifications/cancelled", {"requestId": id})

    async def open_get(self, **headers: str) -> Response:
        """Listen on the standalone stream."""
        return await self.send("GET", headers=headers)

    async def resume(self, last_event_id: str, **headers: str) -> Response:
        return await self.send("GET", headers={"last-event-id": last_event_id, **headers})

    async def delete(self) -> Response:
        return await self.send("DELETE")

    async def post(self, message: Mapping[str, Any] | bytes, **headers: str) -> Response:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        given = {"content-type": JSON_TYPE, "accept": f"{JSON_TYPE}, {SSE_TYPE}", **headers}
        return await self.send("POST", body, given)

    async def send(self, method: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """Send anything; headers that are given replace those that it would send itself, an empty one leaves it out."""
        standard = {
            "host": f"{self.address[0]}:{self.address[1]}",
            "accept": SSE_TYPE,
            "mcp-session-id": self.session_id or "",
            "mcp-protocol-version": self.protocol or "",
            "authorization": f"Bearer {self.token}" if self.token else "",
            "content-length": str(len(body)),
            "connection": "close",
        }
        given = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        wanted = {name: value for name, value in {**standard, **given}.items() if value}
        head = Head(f"{method} {self.path} HTTP/1.1", tuple(wanted.items()))
        return await asyncio.wait_for(self._exchange(head.encoded() + body), PATIENCE)

    async def _exchange(self, request: bytes) -> Response:
        reader, writer = await asyncio.open_connection(*self.address, limit=2**24)
        try:
            writer.write(request)
            response = Response(await read_head(reader), reader, writer)
        except BaseException:
            writer.transport.abort()
            raise
        self._opened.append(response)
        return response


def text_of(answer: Mapping[str, Any]) -> str:
    """The text of a tool's result."""
    result = answer["result"]
    assert not result.get("isError"), result
    return result["content"][0]["text"]


__all__ = ["CURRENT", "WITHOUT_PRIMING", "Client", "CutOff", "Frame", "Response", "text_of"]
