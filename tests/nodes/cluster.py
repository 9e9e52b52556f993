"""Two nodes on one database behind a balancer, and the clients that a test opens to them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import count
from typing import Any

from tests.nodes.balancer import Balancer
from tests.nodes.client import CURRENT, Client
from tests.nodes.node import NewProcess, Node

NAMES = ("a", "b")


def gates() -> Iterator[str]:
    """Names of gates."""
    return (f"gate{number}" for number in count())


class Cluster:
    """`async with Cluster(new_process, "mcpserver", dsn) as cluster`; the nodes start at the same moment.

    Attributes:
        nodes: "a" and "b", which are 0 and 1 for the balancer.
    """

    def __init__(self, new_process: NewProcess, host: str, dsn: str | None, **options: Any) -> None:
        self.host = host
        self.dsn = dsn
        self.nodes = [Node(new_process, host=host, dsn=dsn, name=name, **options) for name in NAMES]
        self.balancer = Balancer([node.address for node in self.nodes])
        self.path: str = options.get("mount", "") + options.get("path", "/mcp")
        self._gates = gates()
        self._clients: list[Client] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Cluster:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.balancer)
            for node in self.nodes:
                stack.push_async_exit(node.__aexit__)
            await self.ready()
            # From here on it ends with the block, and not with a start that fails.
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()
        await self._stack.aclose()

    @property
    def a(self) -> Node:
        return self.nodes[0]

    @property
    def b(self) -> Node:
        return self.nodes[1]

    async def ready(self) -> None:
        """Start the nodes that do not run, and let the balancer take turns again."""
        ended = [node for node in self.nodes if not node.is_running]
        await asyncio.gather(*(node.launch() for node in ended))
        await asyncio.gather(*(node.serving() for node in ended))
        self.balancer.round_robin()

    async def leave(self) -> None:
        """Break every connection of the test's clients."""
        clients, self._clients = self._clients, []
        for client in clients:
            await client.__aexit__()
        self.balancer.cut()
        await self.balancer.wait_until(lambda balancer: balancer.connections == 0)

    def gate(self) -> str:
        """The name of a gate that no other call waits at, not even one that an earlier test has left."""
        return next(self._gates)

    def gates(self) -> Iterator[str]:
        """More such names."""
        return self._gates

    def client(self, at: Node | Balancer | None = None, token: str | None = None) -> Client:
        """A client without a session, of the balancer unless told otherwise."""
        self._clients.append(Client((at or self.balancer).address, self.path, token))
        return self._clients[-1]

    async def session(
        self, at: Node | Balancer | None = None, token: str | None = None, protocol: str = CURRENT
    ) -> Client:
        """A client with a new session."""
        client = self.client(at, token)
        await client.initialize(protocol)
        return client

    def same(self, client: Client, at: Node | Balancer, token: str | None = None) -> Client:
        """The session of a client, reached by another way or under another token."""
        self._clients.append(client.at(at.address, token))
        return self._clients[-1]
