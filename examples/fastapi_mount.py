"""A server within a FastAPI app, at /tools/mcp: `uvicorn --app-dir examples fastapi_mount:app`."""

from fastapi import FastAPI
from mcp.server.mcpserver import MCPServer

from mcp_persist_sa import persist, session_state

mcp = MCPServer("visits")


@mcp.tool()
async def visit() -> int:
    """Count this session's visits."""
    return await session_state().update("visits", lambda visits: (visits or 0) + 1)


mcp_app = persist(mcp, "sqlite:///visits.db")

# The lifespan of a mounted app never runs by itself; it is what opens the store.
app = FastAPI(lifespan=mcp_app.router.lifespan_context)
app.mount("/tools", mcp_app)


@app.get("/health")
async def health() -> str:
    """Say that the process lives."""
    return "well"
