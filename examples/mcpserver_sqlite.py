"""An MCPServer (mcp 2.x) on a SQLite file: `uvicorn --app-dir examples mcpserver_sqlite:app`.

Stop it while a client is connected, by Ctrl-C or `kill -9`, and start it again: the client's session goes on.
"""

import asyncio

from mcp.server.mcpserver import Context, MCPServer

from mcp_persist_sa import persist

mcp = MCPServer("counter")


@mcp.tool()
async def count(to: int, ctx: Context) -> str:
    """Count slowly, and report each number."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to)
        await asyncio.sleep(0.1)
    return f"Counted to {to}."


app = persist(mcp, "sqlite:///counter.db")
