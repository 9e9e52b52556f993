"""The client of the demonstration: that of the installed SDK, in the handshake era, with a note of all that comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import ClientMessageMetadata
from mcp.types import CallToolRequest, CallToolRequestParams, CallToolResult

from mcp_persist_sa.demo.line import MCPError, http

_PATIENCE = 60


@dataclass
class Heard:
    """What came of a call.

    Attributes:
        numbers: The progress, in the order in which it came.
        event_ids: Of the frames, in the order in which they came.
        answer: The text of the result, or of the error.
        failed: Whether it is an error.
        reached: Set when the progress is as far as was asked for, or the call is over.
    """

    numbers: list[int] = field(default_factory=list[int])
    event_ids: list[str] = field(default_factory=list[str])
    answer: str = ""
    failed: bool = False
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def lost(self, to: int) -> int:
        """How many numbers up to one never came."""
        return len(set(range(1, to + 1)) - set(self.numbers))

    @property
    def doubled(self) -> int:
        """How many came again."""
        return sum(count - 1 for count in (*Counter(self.numbers).values(), *Counter(self.event_ids).values()))

    @property
    def in_order(self) -> bool:
        """Whether they came in order."""
        return sorted(self.numbers) == self.numbers


class Client:
    """A client with a session.

    Attributes:
        session_ids: All that servers have named.
        resumed: Each Last-Event-ID with which it came back.
    """

    def __init__(self, session: ClientSession, session_ids: set[str], resumed: list[str]) -> None:
        self._session = session
        self.session_ids = session_ids
        self.resumed = resumed

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncGenerator[Client, None]:
        """Open a session, which ends with the block."""
        session_ids: set[str] = set()
        resumed: list[str] = []

        async def asked(request: Any) -> None:
            if last := request.headers.get("last-event-id"):
                resumed.append(last)

        async def answered(response: Any) -> None:
            if found := response.headers.get("mcp-session-id"):
                session_ids.add(found)

        hooks: Any = {"request": [asked], "response": [answered]}
        http_client = http.AsyncClient(timeout=_PATIENCE, trust_env=False, event_hooks=hooks)
        async with (
            http_client,
            streamable_http_client(url, http_client=http_client) as (reading, writing, *_),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            yield cls(session, session_ids, resumed)

    async def text(self, tool: str, **arguments: Any) -> str:
        """Call a tool, and give the text of its result."""
        return _text(await self._session.call_tool(tool, arguments))

    async def count(self, heard: Heard, to: int, at: int, progress: Callable[[int], None]) -> None:
        """Call the tool that counts."""

        async def on_progress(number: float, _total: float | None, _message: str | None) -> None:
            heard.numbers.append(int(number))
            progress(int(number))
            if number >= at:
                heard.reached.set()

        try:
            await self._send(heard, to, None, on_progress)
        finally:
            heard.reached.set()

    async def replay(self, after: str) -> Heard:
        """Resume a stream from an event, as a client would that has forgotten all that came after it."""
        heard = Heard()
        await self._send(heard, 0, after, None)
        return heard

    async def _send(self, heard: Heard, to: int, resume_after: str | None, on_progress: Any) -> None:
        async def on_event_id(event_id: str) -> None:
            heard.event_ids.append(event_id)

        request = CallToolRequest(method="tools/call", params=CallToolRequestParams(name="count", arguments={"to": to}))
        metadata = ClientMessageMetadata(resume_after, on_event_id)
        try:
            heard.answer = _text(
                await self._session.send_request(
                    cast(Any, request), CallToolResult, metadata=metadata, progress_callback=on_progress
                )
            )
        except MCPError as error:
            heard.answer, heard.failed = error.error.message, True


def _text(result: CallToolResult) -> str:
    return str(getattr(result.content[0], "text", ""))
