"""A FastMCP of mcp 1.x on a SQLite file: `uvicorn --app-dir examples fastmcp1_sqlite:app`."""

import asyncio

from mcp.server.fastmcp import Context, FastMCP

from mcp_persist_sa import persist

mcp = FastMCP("counter")


@mcp.tool()
async def count(to: int, ctx: Context) -> str:
    """Count slowly, and report each number."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to)
        await asyncio.sleep(0.1)
    return f"Counted to {to}."


app = persist(mcp, "sqlite:///counter.db")
