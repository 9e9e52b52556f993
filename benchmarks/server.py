"""An MCP server in a process of its own: without a store, with this package, or with a peer."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from benchmarks.client import Address
from benchmarks.contestants import mcp_persist, ours
from benchmarks.databases import Database
from mcp_persist_sa import persist

BARE = "bare SDK"


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    address: Address
    pid: int

    @property
    def resident(self) -> float:
        """KiB of memory that it holds."""
        return resident(Path(f"/proc/{self.pid}"))


def resident(process: Path) -> float:
    """KiB of memory that a process holds."""
    lines = (process / "status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


@asynccontextmanager
async def running(name: str, database: Database, *, json_response: bool = False) -> AsyncGenerator[Running, None]:
    """Start a server on a database that other servers may use too, and stop it at the end."""
    words = ["-m", "benchmarks.server", json.dumps([name, database.backend, database.dsn, json_response])]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        # The peer mounts its endpoint, and redirects from the path without a slash.
        path = "/mcp/" if name == mcp_persist.NAME else "/mcp"
        yield Running(Address(int(await process.stdout.readline()), path), process.pid)
    finally:
        process.terminate()
        await process.wait()


def app(name: str, database: Database, *, json_response: bool) -> Any:
    """The app to serve."""
    server = MCPServer("benchmark", log_level="WARNING")

    @server.tool()
    async def echo(text: str) -> str:
        return text

    @server.tool()
    async def progress(to: int, ctx: Context[Any, Any]) -> str:
        for number in range(1, to + 1):
            await ctx.report_progress(number, to, f"step {number}")
        return "done"

    # Not called by name, but by their decorators.
    _: list[Callable[..., Any]] = [echo, progress]
    if name == BARE:
        return server.streamable_http_app(json_response=json_response)
    if name == ours.NAME:
        return persist(server, database.dsn, json_response=json_response)
    package: Any = importlib.import_module("mcp_persist")
    url = str(database.path) if database.backend == "sqlite" else database.dsn
    return package.with_persistence(
        server, backend=database.backend, url=url, ttl=mcp_persist.TTL, durable_sessions=True
    )


async def _serve(name: str, backend: str, dsn: str, json_response: bool) -> None:
    """Be a server, and print the port."""
    # Asyncio turns Nagle's algorithm off only where the protocol is given; it would cost 40 ms a request.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(200)
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(
            app(name, Database(backend, dsn), json_response=json_response),
            log_level="warning",
            timeout_keep_alive=3600,
            timeout_graceful_shutdown=1,
        )
        await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(_serve(*json.loads(sys.argv[1])))
