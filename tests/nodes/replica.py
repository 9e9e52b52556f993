"""A replica of a stateless server: `python -m tests.nodes.replica DSN PORT SECRET`; it talks as `tests.nodes.app`."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.request_state import AESGCMRequestStateCodec, RequestStateSecurity
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult

from mcp_persist_sa import open_store, persist
from tests.nodes.app import Announcing

NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def build(dsn: str, secret: str) -> Any:
    store = open_store(dsn)
    security = RequestStateSecurity.ephemeral()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None, None]:
        if secret:
            security.codec = AESGCMRequestStateCodec(await store.request_state_keys(secret))
        yield

    mcp = MCPServer(
        "replica", subscriptions=store.subscription_bus(), request_state_security=security, lifespan=lifespan
    )

    @mcp.tool()
    async def publish(uri: str, ctx: Context) -> str:
        """Say that the resource changed, or without one, that all lists did."""
        if uri:
            await ctx.notify_resource_updated(uri)
        else:
            await ctx.notify_tools_changed()
            await ctx.notify_prompts_changed()
            await ctx.notify_resources_changed()
        return str(os.getpid())

    @mcp.tool()
    async def greet(ctx: Context) -> str | InputRequiredResult:
        """Ask for a name in one request, and use it in the next."""
        if ctx.request_state is None:
            params = ElicitRequestFormParams(message="Who?", requested_schema=NAME)
            return InputRequiredResult(
                input_requests={"name": ElicitRequest(params=params)}, request_state=str(os.getpid())
            )
        return f"{ctx.request_state} {os.getpid()}"

    return persist(mcp, store, patience=60)


async def serve(dsn: str, port: str, secret: str) -> None:
    config = uvicorn.Config(build(dsn, secret), log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    with socket.create_server(("127.0.0.1", int(port)), backlog=200) as listening:
        await Announcing(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
