"""An SDK's own client: `python -m tests.nodes.official LINE URL [TOKEN]`, where LINE is mcp1, mcp2,
fastmcp4, or stateless for mcp 2.x in its newest protocol era.

It prints a line of JSON when it is connected. Each line on its standard input is a call: `{"call": "echo", "arguments":
{"text": "x"}}`; it prints what arrives meanwhile (progress, log, asked, sampled, listed), and at last the result or the
error. At the end of its input it leaves the session in the SDK's manner, and says so.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any

from tests.nodes.tools import say

ANSWER = "blue"
"""What it answers to every elicitation, and what its model says to every prompt."""

Call = Callable[[str, dict[str, Any]], Awaitable[Any]]


async def on_progress(progress: float, total: float | None, message: str | None) -> None:
    say(progress=[progress, total, message])


async def on_log(params: Any) -> None:
    say(log=params.data)


async def on_elicitation(context: Any, params: Any) -> Any:
    say(asked=params.message)
    types: Any = import_module("mcp.types")
    return types.ElicitResult(action="accept", content={"answer": ANSWER})


async def on_sampling(context: Any, params: Any) -> Any:
    types: Any = import_module("mcp.types")
    said = params.messages[0].content
    say(sampled=(said[0] if isinstance(said, list) else said).text)
    content = types.TextContent(type="text", text=ANSWER)
    return types.CreateMessageResult(role="assistant", content=content, model="a parrot")


ROOT = "file:///home"


async def on_roots(context: Any) -> Any:
    say(listed=ROOT)
    types: Any = import_module("mcp.types")
    return types.ListRootsResult(roots=[types.Root(uri=ROOT)])


CALLBACKS = {
    "list_roots_callback": on_roots,
    "elicitation_callback": on_elicitation,
    "sampling_callback": on_sampling,
    "logging_callback": on_log,
}


@asynccontextmanager
async def mcp1(url: str, token: str | None) -> AsyncGenerator[Call, None]:
    """The client of mcp 1.x."""
    transport: Any = import_module("mcp.client.streamable_http")
    session_class: Any = import_module("mcp").ClientSession
    headers = {"Authorization": f"Bearer {token}"} if token else None
    async with (
        transport.streamablehttp_client(url, headers) as (reading, writing, _),
        session_class(reading, writing, **CALLBACKS) as session,
    ):
        result = await session.initialize()
        say(connected=result.protocolVersion)
        yield lambda tool, arguments: session.call_tool(tool, arguments, progress_callback=on_progress)


@asynccontextmanager
async def mcp2(url: str, token: str | None, mode: str = "legacy") -> AsyncGenerator[Call, None]:
    """The client of mcp 2.x, in its handshake mode unless told otherwise."""
    transport: Any = import_module("mcp.client.streamable_http")
    http: Any = import_module("httpx2")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    # The SDK's own timeouts: a stream may be silent for long.
    async with http.AsyncClient(headers=headers, timeout=http.Timeout(30, read=300)) as http_client:
        opened = transport.streamable_http_client(url, http_client=http_client)
        async with import_module("mcp").Client(opened, mode=mode, **CALLBACKS) as client:
            say(connected=client.protocol_version)
            yield lambda tool, arguments: client.call_tool(tool, arguments, progress_callback=on_progress)


@asynccontextmanager
async def fastmcp4(url: str, token: str | None) -> AsyncGenerator[Call, None]:
    """The client of fastmcp 4.x in its handshake mode."""

    async def elicited(message: str, response_type: Any, params: Any, context: Any) -> Any:
        say(asked=message)
        return {"answer": ANSWER}

    async def sampled(messages: Any, params: Any, context: Any) -> str:
        return (await on_sampling(context, params)).content.text

    async def listed(context: Any) -> Any:
        return (await on_roots(context)).roots

    callbacks = {
        "elicitation_handler": elicited,
        "sampling_handler": sampled,
        "log_handler": on_log,
        "roots": listed,
    }
    async with import_module("fastmcp").Client(url, auth=token, mode="legacy", **callbacks) as client:
        say(connected=client.initialize_result.protocol_version)
        yield lambda tool, arguments: client.call_tool(
            tool, arguments, progress_handler=on_progress, raise_on_error=False
        )


LINES = {"mcp1": mcp1, "mcp2": mcp2, "fastmcp4": fastmcp4, "stateless": partial(mcp2, mode="auto")}


async def run(line: str, url: str, token: str | None = None) -> None:
    async with LINES[line](url, token) as call:
        while order := await asyncio.to_thread(sys.stdin.readline):
            wanted = json.loads(order)
            try:
                result = await call(wanted["call"], wanted["arguments"])
            except Exception as error:
                say(error=f"{type(error).__name__}: {error}")
            else:
                failed = getattr(result, "isError", False) or getattr(result, "is_error", False)
                say(**{"error" if failed else "result": result.content[0].text})
    say(closed=True)


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
