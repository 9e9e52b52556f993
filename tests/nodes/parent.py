"""The parent of nodes: it imports what they need once, and forks each: `python -m tests.nodes.parent MODULE ...`.

Its standard input is a datagram socket. A message there has the options of a node, as `tests.nodes.app` takes them, and
brings the node's standard streams, and a socket on which to tell its pid and in the end its exit code. Between the
parent and each node stands a process that does nothing but wait for it. A process is killed when its parent dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import pkgutil
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path

from tests.servers.launch import die_with_parent

STREAMS = 4
"""What comes with a message: the three standard streams, and the socket for the pid and the exit code."""

LARGEST = 1 << 17
"""Octets of a message."""


def prepare(modules: list[str]) -> None:
    """Import these modules, the whole package, and what serves an app."""
    package = import_module("mcp_persist_sa")
    ours = [found.name for found in pkgutil.walk_packages(package.__path__, "mcp_persist_sa.")]
    served_by = [f"uvicorn.{name}" for name in ("lifespan.on", "protocols.http.auto", "protocols.websockets.auto")]
    for module in (*modules, *served_by, "starlette.applications", "tests.nodes.app"):
        import_module(module)
    for module in ours:
        # What needs an extra that this environment lacks, no node uses.
        with contextlib.suppress(package.MissingExtra):
            if not module.endswith(".__main__"):
                import_module(module)
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "a process with threads cannot be forked safely"
    gc.collect()
    gc.freeze()


def next_node(messages: socket.socket) -> str | None:
    """Wait for a message; give it in the process that is to be its node, and None in this one."""
    message, streams, *_ = socket.recv_fds(messages, LARGEST, STREAMS)
    assert len(streams) == STREAMS
    if _fork() == 0:
        messages.close()
        _stand_by(streams)
        return message.decode()
    for stream in streams:
        os.close(stream)
    return None


def _fork() -> int:
    """Fork a process that dies with this one."""
    us = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with_parent(signal.SIGKILL)
        if os.getppid() != us:
            os._exit(1)
    return pid


def _stand_by(streams: list[int]) -> None:
    """Fork the node, to which this returns; tell its pid, and when it has ended, its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, told = streams
    node = _fork()
    if node == 0:
        # As `launch.py` has it for other children: Ctrl-C is for the tests alone.
        os.setpgid(0, 0)
        os.close(told)
        for number, stream in enumerate(standard):
            os.dup2(stream, number)
            os.close(stream)
        return
    for stream in (*standard, 0, 1, 2):
        os.close(stream)
    with contextlib.suppress(BrokenPipeError), socket.socket(fileno=told) as test:
        test.sendall(b"%d\n" % node)
        test.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(node, 0)[1]))
    os._exit(0)


def main() -> None:
    # Nobody waits for those who wait.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    messages = socket.socket(fileno=os.dup(0))
    prepare(sys.argv[1:])
    while (options := next_node(messages)) is None:
        pass
    from tests.nodes.app import serve
    from tests.nodes.hosts import Options

    asyncio.run(serve(Options(**json.loads(options))))


if __name__ == "__main__":
    main()
