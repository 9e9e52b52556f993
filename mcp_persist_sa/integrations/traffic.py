"""A request on its way in, and its response on its way out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Receive, Send

from mcp_persist_sa.errors import PersistError, SessionLimitReached, TooLarge
from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.integrations.adoption import Copies
from mcp_persist_sa.integrations.backchannel import BackChannel
from mcp_persist_sa.integrations.calls import Call, Copy
from mcp_persist_sa.integrations.gate import Durability, Gate
from mcp_persist_sa.models import value_of

logger = logging.getLogger(__name__)

BUSY = {"Retry-After": "1"}
"""A header for who should come again soon."""


class Incoming:
    """A request on its way in."""

    def __init__(
        self, copies: Copies, copy: Copy, outgoing: Outgoing, receive: Receive, backchannel: BackChannel
    ) -> None:
        self._copies = copies
        self._copy = copy
        self._outgoing = outgoing
        self._backchannel = backchannel
        self.body = asgi.Body(receive, self._whole, copy.store.options.max_message_bytes)

    async def _whole(self, message: Any) -> bytes | None:
        """Look into a request; gives what the SDK is given instead of it, or None."""
        self._outgoing.message = message
        self._outgoing.call = self._copy.begin(message)
        if not self._copy.local_id:
            return None
        await self._copies.journal(self._copy, message)
        here, self._outgoing.settle, self._outgoing.undo = self._backchannel.route(self._copy, message)
        if here is message:
            return None
        if not self.body.replaceable:
            self._outgoing.settle = _refuse_as_too_large
        return asgi.encoded(here)


async def _refuse_as_too_large() -> None:
    raise TooLarge("An answer may not be larger than a message that can be stored: see max_message_bytes.")


class Outgoing:
    """A response on its way out: with the public session id, and each frame when its event is durable."""

    def __init__(
        self, copies: Copies, copy: Copy, send: Send, durability: Durability, *, last_try: bool, deletes: bool = False
    ) -> None:
        self._deletes = deletes
        self._copies = copies
        self._durability = durability
        self._copy = copy
        self._send = send
        self._last_try = last_try
        self._gate: Gate | None = None
        self._withheld = False
        self.gone = False
        self.refused = False
        self.message: Any = None
        self.settle: Callable[[], Awaitable[None]] | None = None
        self.undo: Callable[[], None] | None = None
        self.call: Call | None = None

    async def __call__(self, message: Message) -> None:
        """Send a part of the response."""
        if self.gone or self._withheld:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body" and self._gate is not None:
            await self._gate.body(message, self.call)
        else:
            await self._send(message)

    async def _start(self, message: Message) -> None:
        headers = dict(message.get("headers", []))
        self.refused = message["status"] >= 400
        if self.refused and self.undo is not None:
            self.undo()
        if message["status"] == 404 and self._copy.local_id and not self._last_try:
            self.gone = True
            return
        local_id = headers.get(asgi.SESSION_ID)
        if local_id is not None:
            try:
                await self._settle(local_id.decode())
            except PersistError as error:
                self._withheld = True
                await _refuse(self._send, error)
                return
            message = {**message, "headers": asgi.headers_for(message["headers"], self._copy.session_id)}
        if headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            self._gate = Gate(self._send, self._durability)
        await self._send(message)

    async def _settle(self, local_id: str) -> None:
        """Write down what the response tells the client, before it does."""
        if self.refused:
            return
        if self.settle is not None:
            await self.settle()
        if not self._copy.local_id:
            await self._copies.opened(self._copy, local_id, value_of(self.message, "params") or {})
        elif self._deletes:
            await self._copies.delete(self._copy)

    async def close(self) -> None:
        """Nothing more is sent."""
        if self._gate is not None:
            await self._gate.close()


async def _refuse(send: Send, error: PersistError) -> None:
    status = 413 if isinstance(error, TooLarge) else 503
    text = str(error) if isinstance(error, SessionLimitReached | TooLarge) else "The session store is away."
    logger.warning("A request is refused: %s", error)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await asgi.error_response(status, text, headers=BUSY if status == 503 else None)({"type": "http"}, receive, send)
