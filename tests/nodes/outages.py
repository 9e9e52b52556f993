"""Stores that are away on command: a server or the way to it that fails, a file that is locked, a disk that is full."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.servers import FaultProxy, PostgresServer, contains
from tests.servers.dsns import Dsn

PATIENCE_OF_NODES = 0.8
"""Seconds for which the nodes wait for the store."""

_LONGER = 2 * PATIENCE_OF_NODES
_ALWAYS = 1_000_000_000

ON_THE_WAY = ("refused", "delayed", "a black hole that lets go", "a black hole that swallows")
AWAY = (*ON_THE_WAY, "paused")
"""Nothing can be read or written."""

READABLE = ("replies lost", "busy file")
"""What is stored can be read, and no message can be stored, or nobody learns that it was."""


@dataclass
class Outage:
    """A store, as nodes reach it, and a fault to inflict on it.

    Attributes:
        dsn: As the nodes reach it.
        begin: Makes the fault.
        end: Ends it, if there is one.
        direct: As the test reaches it meanwhile.
    """

    dsn: str
    begin: Callable[[], None]
    end: Callable[[], None]
    direct: str = ""


def _through(proxy: FaultProxy, kind: str) -> tuple[Callable[[], None], Callable[[], None]]:
    def refuse() -> None:
        proxy.refuse()
        proxy.cut()

    def cut_the_hole() -> None:
        proxy.cut()
        proxy.pass_through()

    def lose_replies() -> None:
        # The text of a message: that of a statement which is prepared already is not sent again.
        proxy.cut_after_request(contains(b"jsonrpc"), _ALWAYS)

    return {
        "refused": (refuse, proxy.pass_through),
        "delayed": (lambda: proxy.delay(_LONGER), proxy.pass_through),
        "a black hole that lets go": (proxy.black_hole, proxy.pass_through),
        "a black hole that swallows": (proxy.black_hole, cut_the_hole),
        "replies lost": (lose_replies, proxy.pass_through),
    }[kind]


@asynccontextmanager
async def on_the_way(dsn: str, kind: str) -> AsyncGenerator[Outage]:
    """A fault between the nodes and a Postgres server."""
    address = Dsn.parse(dsn)
    async with FaultProxy(address.host, address.port) as proxy:
        yield Outage(proxy.dsn(dsn), *_through(proxy, kind), dsn)


@contextmanager
def paused(server: PostgresServer, dsn: str) -> Generator[Outage]:
    """A Postgres server whose every process is stopped by SIGSTOP."""
    try:
        yield Outage(dsn, server.pause, server.resume)
    finally:
        server.resume()


@contextmanager
def busy_file(path: Path) -> Generator[Outage]:
    """A SQLite file whose write lock another process, that of the test, does not give back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def begin() -> None:
            other.execute("BEGIN IMMEDIATE")

        yield Outage(f"sqlite:///{path}", begin, other.rollback)


class SmallDisk:
    """A disk that only one node sees, which its interpreter mounts before it runs.

    Attributes:
        interpreter: To start the node with.
    """

    def __init__(self, folder: Path, interpreter: Path) -> None:
        self.interpreter = folder / "python"
        self._disk = folder / "disk"
        self._disk.mkdir()
        mount = f"""mount -t tmpfs -o size=8m tmpfs '{self._disk}' && exec '{interpreter}' "$@" """
        self.interpreter.write_text(f"""#!/bin/sh\nexec unshare --mount sh -c '{_quoted(mount)}' sh "$@"\n""")
        self.interpreter.chmod(0o755)

    def outage(self, pid: Callable[[], int]) -> Outage:
        """A disk that is full.

        Args:
            pid: Gives the process that sees it.
        """

        def ballast() -> Path:
            return Path(f"/proc/{pid()}/root{self._disk}/ballast")

        def fill() -> None:
            with ballast().open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(512))

        return Outage(f"sqlite:///{self._disk / 'store.db'}", fill, lambda: ballast().unlink())


def _quoted(command: str) -> str:
    """To stand between single quotes."""
    return command.replace("'", "'\\''")


def can_mount() -> bool:
    """Whether this account may mount a file system where nobody else sees it."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
