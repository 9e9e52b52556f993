"""`persist` by hand, around a session manager of one's own: `uvicorn --app-dir examples manual_wiring:app`."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.types import CallToolResult, ListToolsResult, TextContent, Tool
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_persist_sa import DurableSessions, EventStore, open_store, session_id


async def list_tools(ctx: object, params: object) -> ListToolsResult:
    """The one tool."""
    return ListToolsResult(tools=[Tool(name="whoami", input_schema={"type": "object"})])


async def call_tool(ctx: object, params: object) -> CallToolResult:
    """Say which session is served."""
    return CallToolResult(content=[TextContent(type="text", text=session_id())])


server = Server("by hand", on_list_tools=list_tools, on_call_tool=call_tool)
manager = StreamableHTTPSessionManager(server, event_store=EventStore())
sessions = DurableSessions(manager.handle_request, open_store("sqlite:///by_hand.db"))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[None]:
    """The store is open for longer than the manager runs, and calls may finish before either ends."""
    async with sessions.running(), manager.run():
        yield
        await sessions.drain()


app = Starlette(routes=[Route("/mcp", endpoint=sessions)], lifespan=lifespan)
