"""One node: `python -m tests.nodes.app '{"host": "mcpserver", "dsn": "sqlite:///x.db"}'`, see `hosts.Options`.

It prints a line of JSON with its port and pid as soon as it serves, and more such lines as `tools.say` has them; each
line on its standard input opens the gate of that name. It ends on SIGTERM as uvicorn does.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path

import uvicorn

# Started by its path, it would find only its own folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.nodes.hosts import Options, build
from tests.nodes.tools import Gates, Tools, say


class Announcing(uvicorn.Server):
    """A server that says where it is when its app has started and its port listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and not self.should_exit:
            say(port=sockets[0].getsockname()[1], pid=os.getpid())


async def serve(options: Options) -> None:
    gates = Gates()
    app = build(options, Tools(options.name, gates))
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    following = asyncio.ensure_future(gates.follow_stdin())
    with socket.create_server(("127.0.0.1", options.port), backlog=200) as listening:
        await Announcing(config).serve(sockets=[listening])
    following.cancel()


if __name__ == "__main__":
    asyncio.run(serve(Options(**json.loads(sys.argv[1]))))
