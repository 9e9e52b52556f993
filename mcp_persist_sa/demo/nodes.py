"""The server processes of the demonstration, and the network between them and the client."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from mcp_persist_sa.demo import SERVES
from mcp_persist_sa.dsn import ENVIRONMENT
from mcp_persist_sa.errors import PersistError


class DemoFailed(PersistError):
    """The demonstration could not be given."""


class Node:
    """A server process on a socket that is ours, so that whoever connects while it is down waits until it is back."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return self._listening.getsockname()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process, and wait until it serves.

        Raises:
            DemoFailed: It does not.
        """
        pipe, descriptor = asyncio.subprocess.PIPE, self._listening.fileno()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mcp_persist_sa.demo.server", str(descriptor)),
            env={**os.environ, ENVIRONMENT: self._dsn},
            pass_fds=[descriptor],
            stdin=pipe,
            stdout=pipe,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if (await self._process.stdout.readline()).decode().strip() != SERVES:
            raise DemoFailed("A server process did not start.")

    async def kill(self) -> None:
        """End the process by SIGKILL."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def close(self) -> None:
        """End it for good."""
        await self.kill()
        self._listening.close()


class Network:
    """What the client connects to: it leads to one of the nodes, and can be cut."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.serving = 0

    @property
    def url(self) -> str:
        """Of the endpoint."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/mcp"

    async def __aenter__(self) -> Network:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def move(self) -> None:
        """Lead to the next node from now on."""
        self.serving = (self.serving + 1) % len(self._nodes)

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection(*self._nodes[self.serving].address)
        both = {writer, node_writer}
        self._writers |= both
        await asyncio.gather(_pass(reader, node_writer), _pass(node_reader, writer))
        self._writers -= both


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
