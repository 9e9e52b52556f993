"""What the demonstration shows, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from mcp_persist_sa.demo.client import Client, Heard
from mcp_persist_sa.demo.nodes import DemoFailed, Network, Node
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.errors import InvalidDSN
from mcp_persist_sa.store import open_store
from mcp_persist_sa.timing import time_limit

CALLS = ("cut and resumed", "killed", "after the kill")
"""The calls whose progress is shown."""

WORD = "remembered"
_WITHOUT_END = 10**9
_PATIENCE = 120
_PATIENCE_PER_EVENT = 0.1


@dataclass
class Story:
    """The demonstration, while it is given.

    Attributes:
        events: How many progress events a call has.
        say: Called with each step.
        progress: Called with a call, by its place in CALLS, and how far it is.
        broken: The promises that were not kept.
    """

    events: int
    say: Callable[[str], None]
    progress: Callable[[int, int], None]
    broken: list[str] = field(default_factory=list[str])

    async def tell(self, dsn: str, count: int) -> None:
        """Give it.

        Args:
            dsn: The database.
            count: The number of nodes.

        Raises:
            InvalidDSN: The database is one that processes cannot share.
            PersistError: The database cannot be used, or the servers do not start.
        """
        if parse(dsn).is_memory:
            raise InvalidDSN("The demonstration is of several processes, which cannot share memory. Name a file.")
        try:
            async with time_limit(_PATIENCE + self.events * _PATIENCE_PER_EVENT):
                await self._play(dsn, count)
        except TimeoutError:
            raise DemoFailed("The demonstration came to no end.") from None

    async def _play(self, dsn: str, count: int) -> None:
        async with open_store(dsn) as store, _nodes(dsn, count) as nodes, Network(nodes) as network:
            async with Client.connected(network.url) as client:
                await self._scenes(nodes, network, client)
            for session_id in client.session_ids:
                await store.sessions.delete(session_id)

    async def _scenes(self, nodes: list[Node], network: Network, client: Client) -> None:
        [session_id] = client.session_ids
        servers = " and ".join(f"process {node.pid}" for node in nodes)
        self.say(f"A client opened session {session_id} at {servers}.")
        await client.text("remember", word=WORD)
        await self._cut(network, client)
        await self._killed(nodes, network, client)
        self._check(client.session_ids == {session_id}, f"The session is the same: {', '.join(client.session_ids)}.")
        word = await client.text("recall")
        self._check(word == WORD, f"Its state, stored before the kill, is there: {word!r}.")
        heard = Heard()
        await self._count(client, 2, heard, self.events)
        self.say(f"A new call: {heard.answer}")
        self._check_numbers(heard, self.events)

    async def _cut(self, network: Network, client: Client) -> None:
        heard = Heard()
        calling = asyncio.create_task(self._count(client, 0, heard, self.events))
        await heard.reached.wait()
        before = network.serving
        network.move()
        network.cut()
        where = "" if network.serving == before else ", and the client led to the other node, while the call ran on"
        self.say(f"A call reports progress. After event {len(heard.numbers)} the connection was cut{where}.")
        await calling
        resumed = [event_id for event_id in client.resumed if event_id in heard.event_ids]
        self._check(bool(resumed), f"The client resumed after Last-Event-ID {', '.join(resumed)}.")
        self._check(not heard.failed, f"The answer: {heard.answer}")
        self._check_numbers(heard, self.events)

    async def _killed(self, nodes: list[Node], network: Network, client: Client) -> None:
        heard = Heard()
        calling = asyncio.create_task(self._count(client, 1, heard, _WITHOUT_END))
        await heard.reached.wait()
        node = nodes[network.serving]
        killed = node.pid
        await node.kill()
        network.move()
        self.say(f"Another call. After event {len(heard.numbers)} its server was killed (SIGKILL {killed}).")
        await node.start()
        self.say(f"It was started again, as process {node.pid}.")
        await calling
        self._check(heard.failed, f"The client resumed, and was told: {heard.answer}")
        self._check_numbers(heard, len(heard.numbers))
        first, *rest = heard.event_ids
        replayed = await client.replay(first)
        same = replayed.event_ids == rest and replayed.answer == heard.answer
        self._check(same, f"Replayed from its beginning: {len(rest)} events, the same, each once.")

    async def _count(self, client: Client, call: int, heard: Heard, to: int) -> None:
        await client.count(heard, to, self.events // 3, lambda number: self.progress(call, number))

    def _check_numbers(self, heard: Heard, to: int) -> None:
        lost, doubled, order = heard.lost(to), heard.doubled, "in order" if heard.in_order else "OUT OF ORDER"
        self._check(
            not lost and not doubled and heard.in_order,
            f"{len(heard.numbers)} progress events: {lost} lost, {doubled} doubled, {order}.",
        )

    def _check(self, kept: bool, text: str) -> None:
        """Say what was found, and note it unless it is as promised."""
        self.say(f"  {text}" if kept else f"  NOT SO: {text}")
        if not kept:
            self.broken.append(text)


@asynccontextmanager
async def _nodes(dsn: str, count: int) -> AsyncGenerator[list[Node], None]:
    async with AsyncExitStack() as stack:
        nodes = [Node(dsn) for _ in range(count)]
        for node in nodes:
            stack.push_async_callback(node.close)
        await asyncio.gather(*(node.start() for node in nodes))
        yield nodes
