"""Requests and responses of ASGI, as far as the layer looks into them."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

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
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


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


def encoded(body: Any) -> bytes:
    """JSON that is no longer than it has to be: a host may limit what it takes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Body:
    """The body of a request, which the SDK is given when the whole of it was seen; it can be read again.

    Attributes:
        replaceable: Whether nothing of it was handed on yet.
    """

    def __init__(self, receive: Receive, whole: Callable[[Any], Awaitable[bytes | None]], most: int) -> None:
        """Make it.

        Args:
            receive: The request's.
            whole: Called, once, with the JSON of the body, before its end is handed on; gives what is to be handed on
                instead of it, as far as it is `replaceable`, or None.
            most: How many bytes are held back; of a larger one, the rest is handed on as it comes.
        """
        self.replaceable = True
        self._receive = receive
        self._whole: Callable[[Any], Awaitable[bytes | None]] | None = whole
        self._most = most
        self._read: list[Message] = []
        self._size = 0
        self._coming: deque[Message] = deque()
        self._ended = False

    async def __call__(self) -> Message:
        """Receive, as ASGI has it."""
        if not self._ended:
            await self._fill(self._most)
        if not self._coming:
            await self._next()
        self.replaceable = False
        return self._coming.popleft()

    async def _fill(self, most: int) -> None:
        while not self._ended and self._size <= most:
            await self._next()

    async def _next(self) -> None:
        message = await self._receive()
        self._coming.append(message)
        if message["type"] != "http.request" or self._ended:
            self._ended = True
            return
        self._read.append(message)
        self._size += len(message.get("body", b""))
        self._ended = not message.get("more_body", False)
        if self._ended and self._whole is not None:
            instead = await self._whole(self.json())
            if instead is not None and self.replaceable:
                self._coming = deque([{"type": "http.request", "body": instead, "more_body": False}])

    def json(self) -> Any:
        """What was read so far, as JSON; None if it is none."""
        try:
            # As bytes: an SDK of the 1.x line reads UTF-16 as well.
            return json.loads(b"".join([message.get("body", b"") for message in self._read]))
        except (ValueError, RecursionError):
            return None

    async def peek(self, length: str | None) -> None:
        """Read it to its end, unless it is a large one, before anybody asks for it.

        Args:
            length: The header, or None.
        """
        if length is None or not length.isdecimal() or int(length) <= _MAX_PEEK:
            await self._fill(_MAX_PEEK)

    def rewind(self) -> None:
        """Let it be read again from its beginning, as it came, by whoever looks into it anew."""
        self._coming = deque(self._read)
        self._whole = None


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
    content = b"" if body is None else encoded(body)
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
