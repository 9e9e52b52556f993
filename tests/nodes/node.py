"""A node as tests hold it: a process that can be killed and started again on its port."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.nodes.wire import PATIENCE
from tests.servers import ChildProcess, ServerError
from tests.servers.spawning import free_port

NewProcess = Callable[[str], ChildProcess]
"""Makes the process of a node, which starts as a block is entered; it takes `hosts.Options` as JSON."""


def run_by(interpreter: Path) -> NewProcess:
    """Has each node run by an interpreter of its own; see `forked.Parent.node` for what costs less."""
    return lambda options: ChildProcess("-m", "tests.nodes.app", options, interpreter=interpreter, timeout=PATIENCE)


class Node:
    """`async with Node(new_process, host="mcpserver", dsn=...) as node`; the options are those of `hosts.Options`."""

    def __init__(self, new_process: NewProcess, **options: Any) -> None:
        self._new_process = new_process
        self.options: Mapping[str, Any] = {"port": free_port(), **options}
        self.address: tuple[str, int] = ("127.0.0.1", self.options["port"])
        self._child: ChildProcess | None = None

    async def __aenter__(self) -> Node:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child is not None:
            await self._child.__aexit__(None, None, None)
            self._child = None

    @property
    def name(self) -> str:
        return self.options.get("name", "node")

    @property
    def child(self) -> ChildProcess:
        assert self._child is not None
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def is_running(self) -> bool:
        return self._child is not None and self._child.returncode is None

    async def start(self) -> None:
        """Start the process, the first time or again, and wait until it serves."""
        await self.launch()
        try:
            await self.serving()
        except BaseException:
            await self.__aexit__()
            raise

    async def launch(self) -> None:
        """Start the process and do not wait for it."""
        await self.__aexit__()
        self._child = await self._new_process(json.dumps(dict(self.options))).__aenter__()

    async def serving(self) -> None:
        await self.said("port", self.address[1])

    async def said(self, what: str, of: object) -> dict[str, Any]:
        """Wait until the node says just this, see `tools.say`; what it says besides is dropped."""

        async def search() -> dict[str, Any]:
            while True:
                line = await self.child.read_line()
                if line.startswith("{") and (found := json.loads(line)).get(what) == of:
                    return found

        return await asyncio.wait_for(search(), PATIENCE)

    async def open(self, gate: str = "step") -> None:
        """Open a gate once, and do not wait for what passes."""
        await self.child.write_line(gate)

    async def step(self, gate: str = "step") -> int | str:
        """Open a gate once, and wait until the tool behind it has taken its step; gives which that was."""
        await self.open(gate)
        return (await self.said("passed", gate))["step"]

    async def kill(self) -> None:
        """End it as a power cut would."""
        assert await self.child.kill() == -signal.SIGKILL, self.child.errors()

    async def terminate(self) -> int:
        """Ask it to end, wait until it has, and give its exit code."""
        self.child.send_signal(signal.SIGTERM)
        return await self.child.wait()

    def errors(self) -> str:
        """What it wrote to its standard error."""
        return self._child.errors() if self._child is not None else ""


__all__ = ["Node", "ServerError"]
