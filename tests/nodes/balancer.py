"""A load balancer in the test's event loop: it chooses a node for each request, and cuts connections on command."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.nodes.wire import PATIENCE, CutOff, Head, chunk, read_body, read_head
from tests.servers.spawning import free_port

Address = tuple[str, int]
Matches = Callable[[Head, bytes], bool]


@dataclass
class Cut:
    """The order to break a response after so many bytes or SSE events of its body; `done` when it was carried out."""

    matches: Matches
    events: int | None
    octets: int | None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    _sent: bytes = b""

    def allowed(self, data: bytes) -> bytes:
        """What of the next part of the body may still pass."""
        before = len(self._sent)
        self._sent += data
        return self._sent[before : self._limit()]

    @property
    def reached(self) -> bool:
        return len(self._sent) >= self._limit()

    def _limit(self) -> int:
        if self.octets is not None:
            return self.octets
        end = 0
        for _ in range(self.events or 0):
            found = self._sent.find(b"\r\n\r\n", end)
            if found < 0:
                return len(self._sent) + 1
            end = found + 4
        return end


@dataclass
class Passage:
    """A request that passed, and where it went; kept in `Balancer.passages` for tests to look at."""

    head: Head
    body: bytes
    node: int


class Balancer:
    """`async with Balancer([node.address, ...]) as balancer`: a client connects to `balancer.address`.

    Each request goes to the next node in turn, unless `to` or `next_to` says otherwise. A node that refuses connections
    is stepped over, or answered for with 502 when it was asked for by its number.
    """

    def __init__(self, nodes: Sequence[Address]) -> None:
        self.address: Address = ("127.0.0.1", free_port())
        self.passages: list[Passage] = []
        self._nodes = list(nodes)
        self._turn = 0
        self._fixed: int | None = None
        self._next: deque[int] = deque()
        self._cuts: list[Cut] = []
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Balancer:
        self._server = await asyncio.start_server(self._accept, *self.address, backlog=200)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._links)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many requests are being answered."""
        return len(self._links)

    def to(self, node: int) -> None:
        """Send every request to this node from now on."""
        self._fixed = node

    def next_to(self, *nodes: int) -> None:
        """Send the next request, or the next few, to these nodes."""
        self._next.extend(nodes)

    def round_robin(self, first: int = 0) -> None:
        """Go back to taking turns, beginning with this node; forget every other order."""
        self._fixed, self._turn = None, first
        self._next.clear()
        self._cuts.clear()

    def cut(self) -> None:
        """Break every connection now, on both sides."""
        for writers in self._links.values():
            for writer in writers:
                writer.transport.abort()

    def cut_after(self, *, events: int | None = None, octets: int | None = None, matches: Matches | None = None) -> Cut:
        """Break the response to the next request (that matches) when so much of its body has passed."""
        assert (events is None) != (octets is None)
        self._cuts.append(Cut(matches or (lambda head, body: True), events, octets))
        return self._cuts[-1]

    async def wait_until(self, condition: Callable[[Balancer], bool]) -> None:
        """Wait until its numbers fulfil a condition: `lambda balancer: balancer.connections == 0`."""

        async def work() -> None:
            while not condition(self):
                await self._changed.wait()

        await asyncio.wait_for(work(), PATIENCE)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = [writer]
        self._announce()
        try:
            # Broken by either side, or by a cut: there is nobody left to tell.
            with contextlib.suppress(CutOff, ConnectionError):
                await self._serve(reader, self._links[task])
        finally:
            for each in self._links.pop(task):
                each.close()
            self._announce()

    async def _serve(self, reader: asyncio.StreamReader, writers: list[asyncio.StreamWriter]) -> None:
        head = (await read_head(reader)).having("connection", "close")
        body = b"".join([part async for part in read_body(reader, head)])
        cut = next((cut for cut in self._cuts if cut.matches(head, body)), None)
        if cut:
            self._cuts.remove(cut)
        opened = await self._open()
        if opened is None:
            writers[0].write(b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            return
        node, upstream, to_node = opened
        writers.append(to_node)
        self.passages.append(Passage(head, body, node))
        self._announce()
        to_node.write(head.encoded() + (chunk(body) + chunk(b"") if head.get("transfer-encoding") else body))
        client_left = asyncio.ensure_future(self._abort_when_closed(reader, to_node))
        try:
            await self._answer(upstream, writers, cut)
        finally:
            client_left.cancel()

    async def _abort_when_closed(self, reader: asyncio.StreamReader, to_node: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        to_node.transport.abort()

    async def _answer(
        self, upstream: asyncio.StreamReader, writers: Sequence[asyncio.StreamWriter], cut: Cut | None
    ) -> None:
        to_client = writers[0]
        try:
            head = await read_head(upstream)
            to_client.write(head.encoded())
            chunked = (head.get("transfer-encoding") or "").lower() == "chunked"
            async for part in read_body(upstream, head):
                passing = cut.allowed(part) if cut else part
                if passing:
                    to_client.write(chunk(passing) if chunked else passing)
                    await to_client.drain()
                if cut and cut.reached:
                    await self._break(writers, cut)
                    return
            to_client.write(chunk(b"") if chunked else b"")
            await to_client.drain()
        except CutOff:
            # The client is to see it as broken as it is.
            to_client.transport.abort()
            raise

    async def _break(self, writers: Sequence[asyncio.StreamWriter], cut: Cut) -> None:
        to_client, to_node = writers
        # Closed in order, since an abort could take along what the client has yet to read.
        to_client.close()
        to_node.transport.abort()
        cut.done.set()

    async def _open(self) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter] | None:
        for node in self._choices():
            try:
                return node, *(await asyncio.open_connection(*self._nodes[node], limit=2**24))
            except ConnectionError:
                continue
        return None

    def _choices(self) -> list[int]:
        if self._next:
            return [self._next.popleft()]
        if self._fixed is not None:
            return [self._fixed]
        first, count = self._turn, len(self._nodes)
        self._turn = (first + 1) % count
        return [(first + step) % count for step in range(count)]

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
