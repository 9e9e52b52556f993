"""What the tools of a node do, whatever SDK calls them. Imports nothing but the standard library until it is used."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

RESOURCE = "memo://one"
"""The resource that can be read and subscribed to."""


@dataclass(frozen=True)
class Call:
    """The request that a tool runs in, as each SDK can give it."""

    session: Any
    request_id: Any
    headers: Mapping[str, str]
    progress: Callable[[float, float, str], Awaitable[None]]
    close_stream: Callable[[], Awaitable[None]]


Tool = Callable[..., Awaitable[str]]


def say(**what: Any) -> None:
    """Tell the test, on standard output, what has just been done."""
    print(json.dumps(what), flush=True)


class Gates:
    """Places where a tool waits until a line on standard input names them; a line opens its gate once."""

    def __init__(self) -> None:
        self._opened: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))

    async def follow_stdin(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        async for line in reader:
            self._opened[line.decode().strip()].release()

    async def passed(self, name: str) -> None:
        await self._opened[name].acquire()


class Tools:
    """The tools. Each takes its call first, and then the arguments that a client gives."""

    def __init__(self, node: str, gates: Gates) -> None:
        self._node = node
        self._gates = gates
        self._subscribed: set[tuple[str, str]] = set()

    def all(self) -> dict[str, Tool]:
        """The tools by their names."""
        methods = inspect.getmembers(self, inspect.iscoroutinefunction)
        return {name: method for name, method in methods if "call" in inspect.signature(method).parameters}

    async def echo(self, call: Call, text: str) -> str:
        return text

    async def who(self, call: Call) -> str:
        """The process that answers."""
        return str(os.getpid())

    async def bad(self, call: Call) -> str:
        """A result that no JSON text can hold: a lone surrogate."""
        return "\ud800"

    async def count(self, call: Call, to: int, interval_ms: int = 0) -> str:
        """Report progress 1 to `to`."""
        for number in range(1, to + 1):
            await call.progress(number, to, f"{self._node}+{number}")
            await asyncio.sleep(interval_ms / 1000)
        return f"{self._node} counted to {to}"

    async def gate_count(self, call: Call, to: int, gate: str = "step") -> str:
        """As `count`, but each step waits until the test opens the gate, and the end once more."""
        try:
            for number in range(1, to + 1):
                await self._gates.passed(gate)
                await call.progress(number, to, f"{self._node}+{number}")
                say(passed=gate, step=number)
            await self._gates.passed(gate)
        except asyncio.CancelledError:
            say(cancelled=gate)
            raise
        say(passed=gate, step="end")
        return f"{self._node} counted to {to}"

    async def close_stream(self, call: Call, gate: str = "") -> str:
        """Close the stream of this very call, as for polling, and go on (when the gate opens, if there is one)."""
        await call.progress(1, 2, f"{self._node}+before")
        await call.close_stream()
        if gate:
            say(closed=gate)
            await self._gates.passed(gate)
        await call.progress(2, 2, f"{self._node}+after")
        return f"{self._node} went on"

    async def notify(self, call: Call, text: str) -> str:
        """Log on the standalone stream: the notification is not related to the request."""
        await call.session.send_log_message(level="info", data=text)
        return f"{self._node} notified"

    async def notify_every(self, call: Call, times: int, interval_ms: int = 0, label: str = "") -> str:
        for number in range(1, times + 1):
            await call.session.send_log_message(level="info", data=f"{label}{self._node}+{number}")
            await asyncio.sleep(interval_ms / 1000)
        return f"{self._node} notified"

    async def ask(self, call: Call, question: str) -> str:
        """Elicit an answer."""
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
        try:
            result = await call.session.elicit_form(question, schema, related_request_id=call.request_id)
        finally:
            say(asked=question)
        return f"{self._node} was told {(result.content or {}).get('answer')}"

    async def sample(self, call: Call, prompt: str) -> str:
        """Have the client's model say something."""
        from mcp import types

        message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=prompt))
        result = await call.session.create_message([message], max_tokens=10, related_request_id=call.request_id)
        return f"{self._node} heard {result.content.text}"

    async def roots(self, call: Call, standalone: bool = False) -> str:
        """List the client's roots, and say what progress it makes with that; or ask for them beside any request."""
        from mcp import types
        from mcp.shared.message import ServerMessageMetadata

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            say(progress=message)

        if standalone:
            result = await call.session.list_roots()
        else:
            request: Any = types.ListRootsRequest()
            wrap: Any = types.ServerRequest
            result = await call.session.send_request(
                wrap(request) if isinstance(wrap, type) else request,
                types.ListRootsResult,
                metadata=ServerMessageMetadata(related_request_id=call.request_id),
                progress_callback=on_progress,
            )
        return f"{self._node} knows {' '.join(str(root.uri) for root in result.roots)}"

    async def remember(self, call: Call, key: str, value: str) -> str:
        from mcp_persist_sa import session_state

        await session_state().set(key, value)
        return "remembered"

    async def recall(self, call: Call, key: str) -> str:
        """What was remembered, or why nothing could be."""
        from mcp_persist_sa import SessionNotFound, session_state

        try:
            return str(await session_state().get(key))
        except SessionNotFound as error:
            return str(error)

    async def touch(self, call: Call) -> str:
        """Say that the resource has changed, if this node knows that the session has subscribed to it."""
        if (call.headers.get("mcp-session-id", ""), RESOURCE) not in self._subscribed:
            return f"{self._node} knows of no subscription"
        await call.session.send_resource_updated(RESOURCE)
        return f"{self._node} updated"

    def subscribe(self, headers: Mapping[str, str], uri: str) -> None:
        """Remember a subscription, as servers do: in memory."""
        self._subscribed.add((headers.get("mcp-session-id", ""), uri))
