"""What a request over HTTP costs through `persist`, beside the SDK without a store, and through mcp-persist.

Each server is a process of its own. The client is this process, with connections that it keeps.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.client import HANDSHAKE, STATELESS, Client, Params
from benchmarks.contestants import mcp_persist, ours
from benchmarks.server import BARE, Running, running

PROGRESS_EVENTS = 20

METHODS: dict[str, tuple[str, Params]] = {
    "tools/list": ("tools/list", {}),
    "tools/call": ("tools/call", {"name": "echo", "arguments": {"text": "x" * 100}}),
    f"tools/call with {PROGRESS_EVENTS} progress events": (
        "tools/call",
        {"name": "progress", "arguments": {"to": PROGRESS_EVENTS}, "_meta": {"progressToken": "token"}},
    ),
}


class Mode(NamedTuple):
    """How clients talk with a server."""

    title: str
    version: str
    json_response: bool = False


STREAMS = Mode("SSE", HANDSHAKE)
STORING_NOTHING = [
    Mode("JSON responses, nothing stored", HANDSHAKE, json_response=True),
    Mode("stateless era", STATELESS),
]


class Round(NamedTuple):
    """The median latency in milliseconds, and requests a second."""

    latency: float
    throughput: float


async def measure(bench: Bench) -> None:
    """Measure each way to talk."""
    await _mode(bench, STREAMS, bench.choose([*METHODS], [*METHODS][2:]))
    if bench.backend == "sqlite" and not bench.quick:
        for mode in STORING_NOTHING:
            await _mode(bench, mode, [*METHODS][:2])


async def _mode(bench: Bench, mode: Mode, methods: list[str]) -> None:
    latency = bench.new_series(f"latency of a request, {mode.title}", unit="ms", better="lower", reference=BARE)
    throughput = bench.new_series(
        f"requests of 20 clients, {mode.title}", unit="requests/s", better="higher", reference=BARE
    )
    names = [BARE, ours.NAME, *([mcp_persist.NAME] if mode is STREAMS else [])]
    requests = bench.choose(40, 20)
    async with servers(bench, names, json_response=mode.json_response) as started:
        for clients, series in ((1, latency), (20, throughput)):
            async with _connected(started, mode.version, clients) as connected:
                for method in methods:
                    runs = {name: partial(_one_round, each, method, requests) for name, each in connected.items()}
                    rounds = await bench.take_turns(runs, seconds=1.2)
                    series.record(
                        method,
                        {
                            name: [each.latency if clients == 1 else each.throughput for each in results]
                            for name, results in rounds.items()
                        },
                    )


@asynccontextmanager
async def servers(
    bench: Bench, names: list[str], *, json_response: bool = False
) -> AsyncGenerator[dict[str, Running], None]:
    """A server of each name, on a database of its own."""
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(bench.database(migrated=name == ours.NAME)) for name in names]
        starting = [
            stack.enter_async_context(running(name, database, json_response=json_response))
            for name, database in zip(names, databases, strict=True)
        ]
        yield dict(zip(names, await asyncio.gather(*starting), strict=True))


@asynccontextmanager
async def _connected(
    started: dict[str, Running], version: str, clients: int
) -> AsyncGenerator[dict[str, list[Client]], None]:
    connected = {name: [Client(server.address, version) for _ in range(clients)] for name, server in started.items()}
    every = [client for each in connected.values() for client in each]
    await asyncio.gather(*(client.open() for client in every))
    yield connected
    for client in every:
        client.close()


async def _one_round(clients: list[Client], method: str, requests: int) -> Round:
    name, params = METHODS[method]
    latencies: list[float] = []

    async def work(client: Client) -> None:
        for _ in range(requests // len(clients)):
            begin = time.perf_counter()
            await client.request(name, params)
            latencies.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    return Round(statistics.median(latencies) * 1000, len(latencies) / (time.perf_counter() - begin))
