"""A request on its way in, and its response on its way out."""

from __future__ import annotations

import logging
from typing import NamedTuple

from starlette.types import Message, Receive, Send

from mcp_persist_sa.errors import PersistError, SessionLimitReached, TooLarge
from mcp_persist_sa.integrations import asgi
from mcp_persist_sa.integrations.adoption import Copies
from mcp_persist_sa.integrations.backchannel import BackChannel, Route
from mcp_persist_sa.integrations.calls import Call, Copy
from mcp_persist_sa.integrations.gate import Durability, Gate
from mcp_persist_sa.models import JSONValue, value_of

logger = logging.getLogger(__name__)

BUSY = {"Retry-After": "1"}
"""A header for who should come again soon."""


class Surroundings(NamedTuple):
    """What all requests to a node share.

    Attributes:
        copies: Of the sessions.
        durability: What is known of the store's state.
        backchannel: To other nodes.
    """

    copies: Copies
    durability: Durability
    backchannel: BackChannel


class Passage:
    """A request on its way in, and its response on its way out.

    The response has the public session id, and each frame leaves when its event is durable.

    Attributes:
        body: What the SDK receives.
        call: That the request began, if it is one that is answered.
        refused: Whether the SDK did not take it.
        gone: Whether the SDK has ended its copy of the session, so that nothing was sent.
    """

    def __init__(
        self, within: Surroundings, copy: Copy, receive: Receive, send: Send, *, last_try: bool, deletes: bool = False
    ) -> None:
        """Make it.

        Args:
            within: What all passages share.
            copy: Of the session.
            receive: The client's.
            send: To the client.
            last_try: Whether the client is told that the SDK does not know its copy.
            deletes: Whether the session ends if the SDK agrees.
        """
        self.body = asgi.Body(receive, self._whole, copy.store.options.max_message_bytes)
        self.call: Call | None = None
        self.refused = False
        self.gone = False
        self._within = within
        self._copy = copy
        self._send = send
        self._last_try = last_try
        self._deletes = deletes
        self._withheld = False
        self._gate: Gate | None = None
        self._message: JSONValue = None
        self._route: Route | None = None

    async def _whole(self, message: JSONValue) -> bytes | None:
        """Look into a request; gives what the SDK is given instead of it, or None."""
        self._message = message
        self.call = self._copy.begin(message)
        if not self._copy.local_id:
            return None
        await self._within.copies.journal(self._copy, message)
        if self.call is not None:
            return None
        self._route = self._within.backchannel.route(self._copy, message)
        if self._route.here is message:
            return None
        if not self.body.replaceable:
            self._route = self._route._replace(settle=_refuse_as_too_large)
        return asgi.encoded(self._route.here)

    async def send(self, message: Message) -> None:
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
        self.refused = message["status"] >= 400
        if self.refused and self._route is not None and self._route.undo is not None:
            self._route.undo()
        if message["status"] == 404 and self._copy.local_id and not self._last_try:
            self.gone = True
            return
        headers = dict(message.get("headers", []))
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
            self._gate = Gate(self._send, self._within.durability)
        await self._send(message)

    async def _settle(self, local_id: str) -> None:
        """Write down what the response tells the client, before it does."""
        if self.refused:
            return
        if self._route is not None and self._route.settle is not None:
            await self._route.settle()
        if not self._copy.local_id:
            await self._within.copies.opened(self._copy, local_id, value_of(self._message, "params") or {})
        elif self._deletes:
            await self._within.copies.delete(self._copy)

    async def close(self) -> None:
        """Nothing more is sent."""
        if self._gate is not None:
            await self._gate.close()


async def _refuse_as_too_large() -> None:
    raise TooLarge("An answer may not be larger than a message that can be stored: see max_message_bytes.")


async def _refuse(send: Send, error: PersistError) -> None:
    status = 413 if isinstance(error, TooLarge) else 503
    text = str(error) if isinstance(error, SessionLimitReached | TooLarge) else "The session store is away."
    logger.warning("A request is refused: %(error)s", {"error": error})

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await asgi.error_response(status, text, headers=BUSY if status == 503 else None)({"type": "http"}, receive, send)
