"""Continue a session by its id from another process, with the client of mcp 2.x and the server of `session_state.py`.

python examples/continue_session.py http://127.0.0.1:8000/mcp               prints the id of a new session
python examples/continue_session.py http://127.0.0.1:8000/mcp SESSION_ID    goes on with it
"""

import asyncio
import sys

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

VERSION = "2025-11-25"


async def begin(url: str) -> str:
    """Open a session, put an apple into its cart, and leave without ending it."""
    session_ids: list[str] = []

    async def note(response: httpx2.Response) -> None:
        session_ids.append(response.headers.get("mcp-session-id", ""))

    http = httpx2.AsyncClient(event_hooks={"response": [note]}, timeout=60)
    async with (
        http,
        # Leaving would end the session otherwise, for every node.
        streamable_http_client(url, http_client=http, terminate_on_close=False) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        await session.call_tool("add", {"item": "apple"})
    return session_ids[0]


async def go_on(url: str, session_id: str) -> str:
    """Look into the cart of a session that another process opened."""
    # The server knows this client already: there is nothing to initialize.
    headers = {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": VERSION}
    http = httpx2.AsyncClient(headers=headers, timeout=60)
    async with (
        http,
        streamable_http_client(url, http_client=http) as (reading, writing),
        ClientSession(reading, writing) as session,
    ):
        result = await session.call_tool("show")
    return str(result.structured_content)


if __name__ == "__main__":
    print(asyncio.run(begin(*sys.argv[1:]) if len(sys.argv) == 2 else go_on(*sys.argv[1:])))
