"""Two nodes on one database behind a load balancer that takes turns with every request:

export MCP_PERSIST_SA_DSN=postgresql://user:password@host/database
mcp-persist-sa upgrade && python examples/two_nodes.py [PORT]

With redis://host:6379/0 there is nothing to upgrade.
"""

import asyncio
import itertools
import multiprocessing
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

import uvicorn
from mcp.server.mcpserver import MCPServer

from mcp_persist_sa import open_store, persist, session_state

mcp = MCPServer("two nodes")


@mcp.tool()
async def visit() -> str:
    """Count this session's visits, wherever they are made."""
    visits = await session_state().update("visits", lambda visits: (visits or 0) + 1)
    return f"Visit {visits}, served by process {os.getpid()}."


def serve(listening: socket.socket) -> None:
    """Run a node, for as long as the process lives that started it."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    app = persist(mcp, open_store())
    # A connection for each request, so that whoever balances connections balances requests.
    config = uvicorn.Config(app, headers=[("Connection", "close")], timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listening])


def end_with_parent() -> None:
    """A node without its balancer would be of no use, and hard to find."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


async def balance(port: int, nodes: list[socket.socket]) -> None:
    """Lead each connection to the next node."""
    turns = itertools.cycle(node.getsockname() for node in nodes)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection(*next(turns))
        await asyncio.gather(copy(reader, node_writer), copy(node_reader, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
        await server.serve_forever()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side leaves, and then tell the other."""
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for each in listening:
        multiprocessing.get_context("spawn").Process(target=serve, args=[each], daemon=True).start()
    with suppress(KeyboardInterrupt):
        asyncio.run(balance(int(sys.argv[1]) if len(sys.argv) > 1 else 8000, listening))
