"""A server of the demonstration: `python -m mcp_persist_sa.demo.server FD` serves on a socket that it inherits.

The database is that of the environment, where a password is not seen by everybody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import uvicorn

from mcp_persist_sa.demo import SERVES
from mcp_persist_sa.demo.line import Context, MCPServer, report
from mcp_persist_sa.integrations import persist, session_state
from mcp_persist_sa.store import open_store

# Short, so that it is soon known what a dead process ran, and what another one does.
_LEASE, _LOOK = 2.0, 0.1
_RETRY_MS = 300
_STEP = 0.005

server = MCPServer("demo", log_level="CRITICAL")


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and report each number as progress."""
    for number in range(1, to + 1):
        await report(ctx, number, to)
        await asyncio.sleep(_STEP)
    return f"Process {os.getpid()} counted to {to}."


@server.tool()
async def remember(word: str) -> str:
    """Store a word in the session's state."""
    await session_state().set("word", word)
    return word


@server.tool()
async def recall() -> str:
    """The word that was stored."""
    return str(await session_state().get("word"))


class _Announcing(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that the server serves."""
        await super().startup(sockets)
        if not self.should_exit:
            print(SERVES, flush=True)


async def main(descriptor: int) -> None:
    """Serve until this process is ended, or the one that started it."""
    store = open_store(node_lease=_LEASE, poll_interval=_LOOK)
    app = persist(server, store, drain=0, retry_interval=_RETRY_MS)
    serving = _Announcing(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    running = asyncio.create_task(serving.serve(sockets=[socket.socket(fileno=descriptor)]))
    orphaned = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait({running, orphaned}, return_when=asyncio.FIRST_COMPLETED)
    serving.should_exit = True
    await running


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
