"""A session's copy on this node, and the requests that it runs."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from starlette.types import Scope

from mcp_persist_sa.errors import InvalidInput, PersistError, StoreUnavailable
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.integrations.numbering import Numbering
from mcp_persist_sa.integrations.sdk import GET_STREAM, answers, wire_text
from mcp_persist_sa.models import JSONValue, value_of
from mcp_persist_sa.outbox import Outbox
from mcp_persist_sa.store import Store
from mcp_persist_sa.streams import Receipt, StreamWriter

logger = logging.getLogger(__name__)

T = TypeVar("T")

_INTERNAL_ERROR = -32603
NODE_GONE = "The server process that ran this request ended before it could answer. Send the request again if need be."
SESSION_ENDED = "The session was ended."
_NOT_ENCODABLE = "The result could not be encoded as JSON."
_RETRY = 0.2


def error_text(request_id: JSONValue, message: str) -> str:
    """A JSON-RPC error that answers a request."""
    error = {"code": _INTERNAL_ERROR, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})


class Call:
    """A JSON-RPC request that this node runs, and the stream of its events.

    Attributes:
        request_id: As the client wrote it: a number stays one.
        attached: Whether the HTTP response to it is still open.
        answered: Whether its response was made.
        receipts: Of events whose frames have not left yet.
        texts: What the frames of some of these have to say instead of what the SDK writes, which does not know the
            public ids of what it asks.
        last: The frame that ends the stream, for a client that the SDK does not send it.
    """

    def __init__(self, copy: Copy, request_id: JSONValue) -> None:
        self.request_id = request_id
        self.attached = True
        self.answered = False
        self.receipts: dict[str, Receipt] = {}
        self.texts: dict[str, str] = {}
        self.last: tuple[str, str] | None = None
        self._copy = copy
        self._writer: StreamWriter | None = None

    @property
    def _stream(self) -> StreamWriter:
        if self._writer is None:
            store = self._copy.store
            will = None if store.node_id is None else error_text(self.request_id, NODE_GONE)
            self._writer = store.claim(self._copy.session_id, str(self.request_id), will=will)
        return self._writer

    def store(self, message: Any) -> str:
        """Hand an event to the writer, and give its id; an empty one if it cannot be stored."""
        final = message is not None and answers(message)
        public = self._copy.numbering.outgoing(message)
        try:
            text = None if public is None else wire_text(public)
        except ValueError as error:
            logger.warning(
                "A message of session %(session_id)s cannot be encoded: %(error)s",
                {"session_id": self._copy.session_id, "error": error},
            )
            if not final:
                return ""
            text = error_text(self.request_id, _NOT_ENCODABLE)
        event_id = self._append(text, final)
        return event_id if public is message else self._replace(event_id, text or "")

    def _replace(self, event_id: str, text: str) -> str:
        """Have the frame of an event say what was stored; the gate takes out an id under which nothing was."""
        known_by = event_id or new_stream_key()
        if self.attached:
            self.texts[known_by] = text
        return known_by

    def _append(self, text: str | None, final: bool) -> str:
        self.answered = self.answered or final
        try:
            # The client waits for the answer; what comes before it may share a commit with it.
            receipt = self._stream.append(text, final=final, can_wait=not final)
        except PersistError as error:
            self._copy.not_stored(error)
            if final:
                self._end_later(text, error)
            return ""
        if self.attached:
            self.receipts[receipt.event_id] = receipt
        if final:
            self.last = (receipt.event_id, text or "")
            self._copy.ended(self)
        return receipt.event_id

    def _end_later(self, text: str | None, error: PersistError) -> None:
        """A stream that lacks its end would let whoever resumes it wait for ever."""
        if isinstance(error, InvalidInput):
            text = error_text(self.request_id, str(error))
        self._copy.spawn(self._end(text))

    async def _end(self, text: str | None) -> None:
        while True:
            try:
                await self._stream.append(text, final=True).durable()
                break
            except StoreUnavailable:
                await asyncio.sleep(_RETRY)
            except PersistError as error:
                self._copy.not_stored(error)
                break
        self._copy.ended(self)

    def abandon(self, why: str) -> None:
        """End the stream in the name of a call that will not be answered any more."""
        if not self.answered and self._writer is not None:
            self._append(error_text(self.request_id, why), final=True)


class Copy:
    """A session as this node serves it.

    Attributes:
        session_id: By which the client and the store know it.
        local_id: By which the SDK on this node knows it.
        owner: The principal that opened it.
        scope: Of the request by which this node came to serve it.
        store: Which holds it.
        recorded: Whether the store knows it.
        initialized: Whether the SDK was told that the client is initialized.
        calls: Those that run, by stream id.
        at_rest: Set while none runs.
        last_used: By the monotonic clock.
        permitted_until: By the monotonic clock: until then nobody need ask whether the session is open.
        lock: Held while the copy is made or brought up to date.
        numbering: Of what the server asks its client in this copy.
        delivering: Held while the SDK is given what its client said to another node.
    """

    def __init__(
        self, store: Store, session_id: str, owner: str | None, scope: Scope, *, json_response: bool = False
    ) -> None:
        self.json_response = json_response
        self.store = store
        self.session_id = session_id
        self.owner = owner
        self.scope = scope
        self.local_id = ""
        self.handshake: JSONValue = None
        self.recorded = False
        self.initialized = False
        self.calls: dict[str, Call] = {}
        self.at_rest = asyncio.Event()
        self.at_rest.set()
        self.last_used = time.monotonic()
        self.permitted_until = 0.0
        self.lock = asyncio.Lock()
        self.numbering = Numbering(store.node_id)
        self.delivering = asyncio.Lock()
        self.quiet: set[str] = set()
        self.troubles = 0
        self._outbox = Outbox(store, session_id, GET_STREAM)
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether a request runs."""
        return bool(self.calls)

    def begin(self, message: Any) -> Call | None:
        """Note a request that is about to be run; None if it is no request."""
        method, request_id = value_of(message, "method"), value_of(message, "id")
        if method is None or request_id is None:
            return None
        self.at_rest.clear()
        call = self.calls[str(request_id)] = Call(self, request_id)
        return call

    def store_event(self, stream_id: str, message: Any) -> str:
        """Store an event, without waiting, and give its id; an empty one if it cannot be stored or need not be."""
        if stream_id in self.quiet:
            return ""
        if stream_id == GET_STREAM:
            return self._publish(message)
        call = self.calls.get(stream_id)
        if call is None:
            # It comes after the answer, which has ended the stream.
            return ""
        if self.json_response:
            # A JSON body has no event id from which it could be resumed.
            if message is not None and answers(message):
                call.answered = True
                self.ended(call)
            return ""
        return call.store(message)

    def _publish(self, message: Any) -> str:
        """What belongs to no request goes to a stream to which every node appends, and leaves by its tails alone."""
        try:
            self._outbox.put(None if message is None else wire_text(self.numbering.outgoing(message)))
        except ValueError as error:
            logger.warning(
                "A message of session %(session_id)s cannot be encoded: %(error)s",
                {"session_id": self.session_id, "error": error},
            )
        return ""

    def not_stored(self, error: PersistError) -> None:
        """Count an event that is lost to whoever resumes; said once for each time that it begins."""
        if not self.troubles:
            logger.warning(
                "Events of session %(session_id)s are not stored: %(error)s",
                {"session_id": self.session_id, "error": error},
            )
        self.troubles += 1

    def ended(self, call: Call) -> None:
        """Note that a call's stream has its end."""
        self.troubles = 0
        if not call.attached:
            self._forget(call)

    def detach(self, call: Call, *, refused: bool) -> None:
        """Note that the HTTP response to a request is over; the request may run on, unless it was refused."""
        call.attached = False
        call.receipts.clear()
        call.texts.clear()
        if call.answered or refused:
            self._forget(call)

    def _forget(self, call: Call) -> None:
        stream_id = str(call.request_id)
        if self.calls.get(stream_id) is call:
            del self.calls[stream_id]
        if not self.calls:
            self.at_rest.set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something beside."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, why: str = NODE_GONE, *, patience: float) -> None:
        """End what still runs, as calls that this node will not answer.

        Args:
            why: For whoever waits for an answer.
            patience: Seconds to wait for notifications to be stored.
        """
        for call in [*self.calls.values()]:
            call.abandon(why)
        await self._outbox.flush(patience)
        for task in [*self._tasks]:
            task.cancel()


current: ContextVar[Copy | None] = ContextVar("mcp_persist_sa_session", default=None)
"""The session of the request that is being served; the SDK's own tasks inherit it."""
