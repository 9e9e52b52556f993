"""What the demonstration needs of the installed line of the SDK, under the names that it has in 2.x."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING or not version("mcp").startswith("1."):
    import httpx2 as http
    from mcp.server.mcpserver import Context as Context
    from mcp.server.mcpserver import MCPServer as MCPServer
    from mcp.shared.exceptions import MCPError as MCPError

    async def report(ctx: Context, number: int, to: int) -> None:
        """Send progress."""
        await ctx.report_progress(number, to)

else:
    import httpx as http
    from mcp.server.fastmcp import Context
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.shared.exceptions import McpError as MCPError

    async def report(ctx: Context, number: int, to: int) -> None:
        """Send progress on the request's own stream, which 1.24 does only if it is told the request."""
        token = ctx.request_context.meta.progressToken
        await ctx.session.send_progress_notification(token, number, to, related_request_id=ctx.request_id)


__all__ = ["Context", "MCPError", "MCPServer", "http", "report"]
