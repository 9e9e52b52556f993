"""Requests and responses of ASGI, as far as the layer looks into them."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import pydantic_core
from anyio import sleep_forever
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SESSION_ID = b"mcp-session-id"
LAST_EVENT_ID = b"last-event-id"
PROTOCOL_VERSION = b"mcp-protocol-version"
CONTENT_LENGTH = b"content-length"
_INVALID_REQUEST = -32600
_MAX_PEEK = 64 * 1024

Headers = list[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a request's header."""
    value = next((value for key, value in scope["headers"] if key == name), None)
    return None if value is None else value.decode("latin-1")


def headers_for(headers: Iterable[tuple[bytes, bytes]], session_id: str) -> Headers:
    """Headers with another session id."""
    others = [(name, value) for name, value in headers if name.lower() != SESSION_ID]
    return [*others, (SESSION_ID, session_id.encode())]


def without(scope: Scope, name: bytes) -> Scope:
    """A request that lacks a header."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != name]}


def error_response(status: int, message: str, *, headers: dict[str, str] | None = None) -> Response:
    """An HTTP error with the JSON-RPC body that the SDK's own errors have."""
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": _INVALID_REQUEST, "message": message}}
    return Response(json.dumps(error), status, headers, "application/json")


def value_of(message: Any, name: str) -> Any:
    """A value of a JSON object; None if it is none, or has no such name."""
    return cast("dict[str, Any]", message).get(name) if isinstance(message, dict) else None


class Body:
    """The body of a request, seen while the SDK reads it; what was read can be read again."""

    def __init__(self, receive: Receive, whole: Callable[[Any], Awaitable[None]]) -> None:
        """Make it.

        Args:
            receive: The request's.
            whole: Called, once, with the JSON of the body, before its end is handed on.
        """
        self._receive = receive
        self._whole = whole
        self._read: list[Message] = []
        self._again: deque[Message] = deque()
        self._complete = False

    async def __call__(self) -> Message:
        """Receive, as ASGI has it."""
        if self._again:
            return self._again.popleft()
        return await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or self._complete:
            return message
        self._read.append(message)
        if not message.get("more_body", False):
            self._complete = True
            await self._whole(self.json())
        return message

    def json(self) -> Any:
        """What was read so far, as JSON; None if it is none."""
        try:
            return pydantic_core.from_json(b"".join(message.get("body", b"") for message in self._read))
        except ValueError:
            return None

    async def peek(self, length: str | None) -> None:
        """Read it to its end, unless it is a large one, and then let it be read again.

        Args:
            length: The header, or None.
        """
        size = int(length) if length is not None and length.isdecimal() else 0
        while not self._complete and size <= _MAX_PEEK:
            message = await self._next()
            if message["type"] != "http.request":
                self._again.append(message)
                return
            size += len(message.get("body", b""))
        self.rewind()

    def rewind(self) -> None:
        """Let it be read again from its beginning."""
        self._again = deque(self._read)


@dataclass
class Exchange:
    """The response to a request that the layer made itself.

    Attributes:
        status: Of HTTP; 0 before there is one.
        headers: Of the response.
        messages: All that was sent.
        streaming: Set when the response turns out to be a stream.
    """

    status: int = 0
    headers: Headers = field(default_factory=list[tuple[bytes, bytes]])
    messages: list[Message] = field(default_factory=list[Message])
    streaming: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Message) -> None:
        """Take a part of the response."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [*message.get("headers", [])]
            if dict(self.headers).get(b"content-type", b"").startswith(b"text/event-stream"):
                self.streaming.set()
        self.messages.append(message)

    async def relay(self, send: Send, session_id: str) -> None:
        """Send it on, as the answer to a request of a session, where it names one."""
        for message in self.messages:
            await send(under(message, session_id))


def under(message: Message, session_id: str) -> Message:
    """A part of a response, which says another session id if it says any."""
    if SESSION_ID not in dict(message.get("headers", [])):
        return message
    return {**message, "headers": headers_for(message["headers"], session_id)}


async def request(
    app: ASGIApp, scope: Scope, method: str, *, session_id: str | None = None, body: Any = None
) -> Exchange:
    """Make a request to the app itself, with what authenticates the one of a scope.

    Args:
        app: The SDK's endpoint.
        scope: Of a request that the host let through.
        method: Of HTTP.
        session_id: The app's own id of the session.
        body: JSON to send.
    """
    exchange = Exchange()
    content = b"" if body is None else json.dumps(body).encode()
    await app(own_scope(scope, method, session_id, len(content)), receiving(content), exchange.send)
    return exchange


async def ask(app: ASGIApp, scope: Scope) -> Exchange:
    """Find out how the app answers a GET of a client; a stream is not read."""
    exchange = Exchange()
    answering = asyncio.ensure_future(app(scope, receiving(b""), exchange.send))
    streaming = asyncio.ensure_future(exchange.streaming.wait())
    try:
        await asyncio.wait({answering, streaming}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        streaming.cancel()
        answering.cancel()
        await asyncio.wait({answering, streaming})
    return exchange


def receiving(content: bytes) -> Receive:
    """The `receive` of a request whose response is wanted to its end."""
    messages: deque[Message] = deque([{"type": "http.request", "body": content, "more_body": False}])

    async def receive() -> Message:
        if not messages:
            await sleep_forever()
        return messages.popleft()

    return receive


def own_scope(scope: Scope, method: str, session_id: str | None, length: int) -> Scope:
    """The scope of a request of our own: from the same principal and to the same host."""
    kept = [(name, value) for name, value in scope["headers"] if name in (b"host", b"origin")]
    accept = b"application/json, text/event-stream"
    headers = [*kept, (b"accept", accept), (b"content-type", b"application/json")]
    if method == "POST":
        headers.append((b"content-length", str(length).encode()))
    if session_id is not None:
        headers.append((SESSION_ID, session_id.encode()))
    return {**scope, "method": method, "headers": headers, "query_string": b""}
