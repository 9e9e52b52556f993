"""The way out of an SSE response: a frame with an event id leaves when its event is durable, and not before."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Generator

from anyio import move_on_after
from sse_starlette import ServerSentEvent
from starlette.types import Message, Send

from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.integrations.calls import Call
from mcp_persist_sa.streams import Receipt

logger = logging.getLogger(__name__)

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_ID = re.compile(rb"^id:[ ]?([^\r\n]*)(?:\r\n|\n|\r)", re.MULTILINE)
_MOST_WAITING = 1000
_MOST_AT_ONCE = 64 * 1024
_SLICES = 4


class Durability:
    """Whether the store keeps up: if it does not, frames do not wait for it one after the other."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._behind: asyncio.Task[None] | None = None
        self.frames_without_id = 0

    async def reached(self, receipt: Receipt) -> bool:
        """Wait for an event, and tell whether it is durable.

        Args:
            receipt: Of the event.
        """
        if receipt.stored:
            return True
        if self._behind is not None:
            return self._without_id()
        try:
            # In slices: while other work held up the event loop, the store's answer could not be heard.
            for _ in range(_SLICES):
                with move_on_after(self._patience / _SLICES):
                    await receipt.durable()
                    return True
        except PersistError:
            return self._without_id()
        if self._behind is None:
            logger.warning("The store is slow or away: frames leave without an id until it has caught up.")
            self._behind = asyncio.ensure_future(self._catch_up(receipt))
        return self._without_id()

    def _without_id(self) -> bool:
        self.frames_without_id += 1
        return False

    async def _catch_up(self, receipt: Receipt) -> None:
        try:
            await receipt.durable()
        except PersistError as error:
            logger.warning("An event was given up: %(error)s", {"error": error})
        self._behind = None
        logger.warning("The store has caught up: frames have their ids again.")


class Gate:
    """Sends an SSE response, frame by frame, each as soon as its event is durable.

    The SDK does not wait: frames that are not durable yet queue here, so that many of them share a commit.
    """

    def __init__(self, send: Send, durability: Durability) -> None:
        self._send = send
        self._durability = durability
        self._call: Call | None = None
        self._buffer = b""
        self._waiting: deque[tuple[bytes, Receipt | None]] = deque()
        self._room = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._sent_last = False
        self._broken: OSError | None = None

    async def body(self, message: Message, call: Call | None) -> None:
        """Take a part of the response's body.

        Args:
            message: `http.response.body`.
            call: The request that is answered.
        """
        self._call = call
        self._buffer += message.get("body", b"")
        while end := _END.search(self._buffer):
            frame, self._buffer = self._buffer[: end.end()], self._buffer[end.end() :]
            await self._frame(frame)
        if not message.get("more_body", False):
            await self._finish()

    async def _frame(self, frame: bytes) -> None:
        found = _ID.search(frame)
        if found is None:
            await self._put(frame, None)
            return
        event_id = found[1].decode("latin-1")
        receipt = self._call.receipts.pop(event_id, None) if self._call is not None else None
        text = self._call.texts.pop(event_id, None) if self._call is not None else None
        if text is not None:
            frame = _frame(event_id, text)
        if self._call is not None and self._call.last is not None:
            self._sent_last = self._sent_last or event_id == self._call.last[0]
        # A frame whose event is not known to be stored must not be resumed from.
        await self._put(frame if receipt is not None else _ID.sub(b"", frame), receipt)

    async def _put(self, frame: bytes, receipt: Receipt | None) -> None:
        if self._broken is not None:
            raise self._broken
        if self._sending is None and (receipt is None or receipt.stored):
            await self._write(frame)
            return
        while len(self._waiting) >= _MOST_WAITING:
            self._room.clear()
            await self._room.wait()
        self._waiting.append((frame, receipt))
        if self._sending is None:
            self._sending = asyncio.ensure_future(self._forward())

    async def _forward(self) -> None:
        try:
            while self._waiting:
                frame, receipt = self._waiting.popleft()
                if receipt is not None and not await self._durability.reached(receipt):
                    frame = _ID.sub(b"", frame)
                await self._write(b"".join([frame, *self._ready(_MOST_AT_ONCE - len(frame))]))
        except OSError as error:
            # The client is gone, which the SDK learns with its next frame.
            self._broken = error
            self._waiting.clear()
        finally:
            self._sending = None
            self._room.set()

    def _ready(self, size: int) -> Generator[bytes, None, None]:
        """The next frames that may leave, which then leave together, until they have so many bytes."""
        while self._waiting and size > 0:
            frame, receipt = self._waiting[0]
            if receipt is not None and not receipt.stored:
                break
            self._waiting.popleft()
            size -= len(frame)
            yield frame
        self._room.set()

    async def _write(self, frame: bytes) -> None:
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    async def _finish(self) -> None:
        if self._sending is not None:
            await self._sending
        last = None if self._call is None else self._call.last
        if last is not None and not self._sent_last:
            # The SDK failed to write its own last frame.
            await self._put(_frame(*last), None if self._call is None else self._call.receipts.pop(last[0], None))
            if self._sending is not None:
                await self._sending
        await self._send({"type": "http.response.body", "body": self._buffer, "more_body": False})

    async def close(self) -> None:
        """Stop sending; nobody listens any more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})


def _frame(event_id: str, text: str) -> bytes:
    return ServerSentEvent(text, id=event_id, event="message").encode()
