"""The one line that makes a server's sessions durable."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from mcp_persist_sa.integrations.hosts import build
from mcp_persist_sa.integrations.layer import DurableSessions
from mcp_persist_sa.store import Store, open_store


def persist(
    server: Any, source: str | Store | None = None, *, patience: float = 2.0, drain: float = 10.0, **options: Any
) -> Starlette:
    """Give the app to serve: sessions survive a restart and run on any node.

    Args:
        server: An `MCPServer` of mcp 2.x, a `FastMCP` of mcp 1.x or of fastmcp 4.x, or a low-level `Server`.
        source: A DSN, or a store; None as in `open_store`. A store that is not open is opened and closed by the app.
        patience: Seconds for which a request waits for the store, and a frame for its event to be durable.
        drain: Seconds for which a shutdown waits for calls that still run.
        **options: Of the server's own app: `path`, `json_response`, `retry_interval`, `session_idle_timeout`, ...

    Raises:
        InvalidOption: The server is none of these, or its app has no such option.
        InvalidDSN: The DSN is not understood.
    """
    store = source if isinstance(source, Store) else open_store(source)
    host = build(server, options)
    layer = host.wrap(
        lambda endpoint: DurableSessions(
            endpoint,
            store,
            patience=patience,
            drain=drain,
            json_response=host.json_response,
            retry_interval=host.retry_interval,
        )
    )
    inner = host.app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncGenerator[Any, None]:
        async with layer.running(), inner(app) as state:
            try:
                yield state
            finally:
                await layer.drain()

    host.app.router.lifespan_context = lifespan
    return host.app
