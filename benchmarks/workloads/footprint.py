"""How much memory an idle session takes in a server, and an open store in a process."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from benchmarks.bench import Bench
from benchmarks.client import Client
from benchmarks.contestants import mcp_persist, ours
from benchmarks.server import BARE, Running
from benchmarks.workloads.calls import servers

_FIRST = 20


async def measure(bench: Bench) -> None:
    """Measure sessions, then stores."""
    if bench.quick and bench.backend != "sqlite":
        return
    sessions = bench.new_series("memory of an idle session", unit="KiB", better="lower", reference=BARE)
    count = bench.choose(100, 30)
    async with servers(bench, [BARE, ours.NAME, mcp_persist.NAME]) as started:
        figures = {name: [await _each_session(server, count)] for name, server in started.items()}
    sessions.record(f"{count} sessions", figures)
    together = bench.choose(10, 2)
    stores = bench.new_series("memory of an open store", unit="KiB", better="lower")
    stores.record(
        f"{together} stores",
        {name: [await _each_store(bench, name, together)] for name in (mcp_persist.NAME, ours.NAME)},
    )


async def _each_session(server: Running, count: int) -> float:
    await _open_sessions(server, _FIRST)
    before = server.resident
    await _open_sessions(server, count)
    return (server.resident - before) / count


async def _open_sessions(server: Running, count: int) -> None:
    for _ in range(count):
        client = Client(server.address)
        await client.open()
        await client.request("tools/list", {})
        client.close()


async def _each_store(bench: Bench, name: str, count: int) -> float:
    """In a process of its own, where an open store has brought what all of them share."""
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(bench.database()) for _ in range(count + 1)]
        words = json.dumps([name, bench.backend, [each.dsn for each in databases]])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.open_stores", words), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        return float(said)
