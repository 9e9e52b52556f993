"""Nodes that are forked by a process that has imported everything, so that a start takes 0.05 s of a processor, not 1.

They are processes as others are, with pids, sockets and streams of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from tests.nodes.wire import PATIENCE
from tests.servers import ChildProcess, ServerError
from tests.servers.processes import REPOSITORY, Process, environment
from tests.servers.spawning import dying_with_us, send


class Parent:
    """The process that forks the nodes of one environment; start it in the main thread, as other children."""

    def __init__(self, interpreter: Path, modules: Iterable[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._messages, its_messages = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        command = dying_with_us([interpreter, "-m", "tests.nodes.parent", *modules], signal.SIGKILL)
        with its_messages:
            self._process = subprocess.Popen(
                command,
                stdin=its_messages.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                cwd=REPOSITORY,
                env=environment(),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """End it, and every node that still runs."""
        self._process.kill()
        self._process.wait()
        self._messages.close()
        self._errors.close()

    def node(self, options: str) -> ChildProcess:
        """A node with these options, as `tests.nodes.app` takes them; it starts as a block is entered."""
        return _Node(self, options)

    def send(self, options: str, streams: list[int]) -> None:
        """Have a node forked, see `tests.nodes.parent`."""
        try:
            socket.send_fds(self._messages, [options.encode()], streams)
        except OSError as error:
            raise ServerError(f"The parent of nodes is gone.\n{self.errors()}") from error

    def errors(self) -> str:
        """What it has written to its standard error."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode(errors="replace")


class _Node(ChildProcess):
    def __init__(self, parent: Parent, options: str) -> None:
        super().__init__(options, timeout=PATIENCE)
        self._parent = parent
        self._options = options
        self._stack = contextlib.ExitStack()

    async def __aexit__(self, *_: object) -> None:
        await super().__aexit__()
        self._stack.close()

    async def _start(self, errors: int) -> Process:
        stdin, its_stdin = socket.socketpair()
        told, its_telling = socket.socketpair()
        stdout, its_stdout = (
            os.fdopen(end, mode, buffering=0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
        )
        with contextlib.ExitStack() as ours:
            for each in (stdin, told, stdout):
                ours.enter_context(each)
            with its_stdin, its_telling, its_stdout:
                streams = [its_stdin.fileno(), its_stdout.fileno(), errors, its_telling.fileno()]
                self._parent.send(self._options, streams)
            # From here on they end with their transports.
            ours.pop_all()
        reader, (_, writer), (telling, other) = (
            await self._reader(stdout),
            await asyncio.open_unix_connection(sock=stdin),
            await asyncio.open_unix_connection(sock=told),
        )
        for each in (writer, other):
            # A writer that nobody holds closes its transport.
            self._stack.callback(lambda held=each: held.transport.abort())
        pid = await asyncio.wait_for(telling.readline(), PATIENCE)
        if not pid:
            self._stack.close()
            raise ServerError(f"No node was forked.\n{self._parent.errors()}")
        return _Forked(writer, reader, telling, int(pid))

    async def _reader(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        connecting = asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        transport, _ = await connecting
        self._stack.callback(transport.close)
        return reader


class _Forked:
    """What an `asyncio.subprocess.Process` is for a child of our own."""

    def __init__(
        self, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader, telling: asyncio.StreamReader, pid: int
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.pid = pid
        self._code = asyncio.ensure_future(_code(telling))

    @property
    def returncode(self) -> int | None:
        return self._code.result() if self._code.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def send_signal(self, signal: signal.Signals) -> None:
        send(self.pid, signal)


async def _code(telling: asyncio.StreamReader) -> int:
    # Who does not come to tell it was killed, and the node with it.
    return int(await telling.readline() or -signal.SIGKILL)
