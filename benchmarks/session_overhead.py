"""What does the layer cost a request, beside the bare SDK? Prints a table of medians and ratios; see --help.

    python -m benchmarks.session_overhead --dsn postgresql://user@host/database

The same server runs without a store, on SQLite, and on Postgres if there is a DSN, each in a process of its own; this
process is the client, with connections that it keeps. The servers take turns, round after round, so that whatever else
the machine does falls on all of them; a ratio is that of two neighbours, and its spread goes over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

from mcp_persist_sa import persist

HANDSHAKE, STATELESS = "2025-11-25", "2026-07-28"
PROGRESS_EVENTS = 20
BARE = "bare SDK"

Params = dict[str, Any]


class Connection:
    """A client: one connection that is kept, and a session where the era has them."""

    def __init__(self, port: int, version: str) -> None:
        self._port = port
        self._version = version
        self._session_id = b""
        self._numbers = count(1)

    async def open(self) -> None:
        """Connect, and shake hands."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        if self._version == HANDSHAKE:
            who = {"name": "benchmark", "version": "1"}
            await self.request("initialize", {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": who})
            await self._send({"jsonrpc": "2.0", "method": "notifications/initialized"}, "notifications/initialized", "")

    async def request(self, method: str, params: Params) -> None:
        """Make a request, and read the whole answer."""
        if self._version == STATELESS:
            params = {**params, "_meta": {**params.get("_meta", {}), **_STATELESS_META}}
        message = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        body = await self._send(message, method, params.get("name", ""))
        assert b'"result":' in body, body
        assert b'"isError":true' not in body, body

    async def _send(self, message: Params, method: str, name: str) -> bytes:
        body = json.dumps(message).encode()
        lines = [
            "POST /mcp HTTP/1.1",
            f"Host: 127.0.0.1:{self._port}",
            "Content-Type: application/json",
            "Accept: application/json, text/event-stream",
            f"MCP-Protocol-Version: {self._version}",
            f"Content-Length: {len(body)}",
        ]
        if self._version == STATELESS:
            lines += [f"Mcp-Method: {method}", *([f"Mcp-Name: {name}"] if name else [])]
        if self._session_id:
            lines.append(f"Mcp-Session-Id: {self._session_id.decode()}")
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        return await self._answer()

    async def _answer(self) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        status, *lines = head[:-4].split(b"\r\n")
        assert status.split()[1] in (b"200", b"202"), head
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        self._session_id = headers.get(b"mcp-session-id", self._session_id)
        if headers.get(b"transfer-encoding") != b"chunked":
            return await self._reader.readexactly(int(headers.get(b"content-length", b"0")))
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body

    def close(self) -> None:
        self._writer.close()


_STATELESS_META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientInfo": {"name": "benchmark", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}

METHODS: dict[str, tuple[str, Params]] = {
    "tools/list": ("tools/list", {}),
    "tools/call": ("tools/call", {"name": "echo", "arguments": {"text": "x" * 100}}),
    f"tools/call, {PROGRESS_EVENTS} progress events": (
        "tools/call",
        {"name": "progress", "arguments": {"to": PROGRESS_EVENTS}, "_meta": {"progressToken": "token"}},
    ),
}


@dataclass(frozen=True)
class Mode:
    """How a client talks with a server, and what the store has to do with it."""

    name: str
    version: str
    json_response: bool = False


MODES = [
    Mode("handshake era, SSE", HANDSHAKE),
    Mode("handshake era, JSON: stores nothing", HANDSHAKE, json_response=True),
    Mode("stateless era: stores nothing", STATELESS),
]


@dataclass(frozen=True)
class Round:
    """What one server did in one round: the median latency in milliseconds, and requests per second."""

    latency: float
    throughput: float


async def one_round(connections: list[Connection], method: str, requests: int) -> Round:
    """Let all clients make requests, one after the other each."""
    name, params = METHODS[method]
    latencies: list[float] = []

    async def work(connection: Connection) -> None:
        for _ in range(requests // len(connections)):
            begin = time.perf_counter()
            await connection.request(name, params)
            latencies.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*(work(connection) for connection in connections))
    return Round(statistics.median(latencies) * 1000, len(latencies) / (time.perf_counter() - begin))


async def compare(ports: dict[str, int], mode: Mode, method: str, clients: int, rounds: int, requests: int) -> None:
    """Measure the servers in turns, and print a line for each."""
    connections = {name: [Connection(port, mode.version) for _ in range(clients)] for name, port in ports.items()}
    for each in connections.values():
        await asyncio.gather(*(connection.open() for connection in each))
        await one_round(each, method, max(clients, requests // 4))
    figures: dict[str, list[Round]] = {name: [] for name in ports}
    for number in range(rounds):
        names = list(ports)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            figures[name].append(await one_round(connections[name], method, requests))
    for each in connections.values():
        for connection in each:
            connection.close()
    print(f"\n{method}; {mode.name}; {clients} client{'s' if clients > 1 else ''}")
    for name, measured in figures.items():
        print(f"  {name:<10} {_line(measured, figures[BARE])}", flush=True)


def _line(measured: list[Round], bare: list[Round]) -> str:
    latency = _spread([each.latency for each in measured], "{:6.2f}")
    slower = _spread([own.latency / other.latency for own, other in zip(measured, bare, strict=True)], "{:.2f}")
    throughput = statistics.median(each.throughput for each in measured)
    fewer = _spread([own.throughput / other.throughput for own, other in zip(measured, bare, strict=True)], "{:.2f}")
    return f"{latency} ms  x{slower}   {throughput:6.0f}/s  x{fewer}"


def _spread(values: list[float], form: str) -> str:
    """The median, and where the middle half lies."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{form.format(middle)} ({form.format(low).strip()} to {form.format(high).strip()})"


def _server(dsn: str | None, json_response: bool) -> Any:
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
    if dsn is None:
        return server.streamable_http_app(json_response=json_response)
    return persist(server, dsn, json_response=json_response)


async def serve(dsn: str | None, json_response: bool) -> None:
    """Be a server, and print its port."""
    # Asyncio turns Nagle's algorithm off only where the protocol is given; it would cost 40 ms a request.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(200)
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(
            _server(dsn, json_response), log_level="warning", timeout_keep_alive=3600, timeout_graceful_shutdown=1
        )
        await uvicorn.Server(config).serve(sockets=[listening])


@asynccontextmanager
async def running(dsn: str | None, json_response: bool) -> AsyncGenerator[int, None]:
    """A server in a process of its own; gives its port."""
    words = ["-m", "benchmarks.session_overhead", "--serve", json.dumps([dsn, json_response])]
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def run(dsns: dict[str, str | None], rounds: int, requests: int) -> None:
    """Measure everything."""
    print(f"medians of {rounds} rounds of {requests} requests; in brackets the middle half of the rounds")
    for mode in MODES:
        async with AsyncExitStack() as stack:
            ports = {
                name: await stack.enter_async_context(running(dsn, mode.json_response)) for name, dsn in dsns.items()
            }
            for method in METHODS:
                for clients in (1, 20):
                    await compare(ports, mode, method, clients, rounds, requests)


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a migrated Postgres database; without it, SQLite alone is measured")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(*json.loads(arguments.serve)))
        return
    with tempfile.TemporaryDirectory() as folder:
        dsns: dict[str, str | None] = {BARE: None, "SQLite": f"sqlite:///{Path(folder) / 'overhead.db'}"}
        if arguments.dsn:
            dsns["Postgres"] = arguments.dsn
        rounds, requests = (3, 40) if arguments.quick else (arguments.rounds, arguments.requests)
        asyncio.run(run(dsns, rounds, requests))


if __name__ == "__main__":
    main()
