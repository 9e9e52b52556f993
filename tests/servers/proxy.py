"""A TCP proxy inside the test's event loop that makes a network fail on command."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from . import dsns
from .spawning import free_port

Predicate = Callable[[bytes], bool]


def contains(text: bytes) -> Predicate:
    """Return a predicate for `cut_after_request`; mind that a prepared statement's text is sent when it is prepared."""
    return lambda request: text in request


def ready_for_query(answer: bytes) -> bool:
    """Say whether PostgreSQL has answered completely, after which a transaction that it ended is durable."""
    return answer[-6:-1] == b"Z\0\0\0\5"


class _Cut:
    """The order to cut connections after a request, and how often it is still to be carried out."""

    def __init__(self, matches: Predicate, answered: Predicate, count: int) -> None:
        self.matches = matches
        self.answered = answered
        self.to_match = count
        self.to_carry_out = count
        self.done = asyncio.Event()


class _Link:
    """One client's connection and the connection to the server that belongs to it."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]
        self._request = b""
        self._answer = b""
        self._waiting_for_answer = False
        self._cut: _Cut | None = None

    async def run(self) -> None:
        try:
            await self._proxy.passage()
            reader, writer = await asyncio.open_connection(self._proxy.server_host, self._proxy.server_port)
            self._writers.append(writer)
            pumps = [
                asyncio.ensure_future(self._pump(self._client[0], writer, self._note_request)),
                asyncio.ensure_future(self._pump(reader, self._client[1], self._note_answer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            pass
        finally:
            for writer in self._writers:
                writer.close()

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[bytes], bool]
    ) -> None:
        while data := await reader.read(65536):
            await self._proxy.passage()
            if note(data):
                writer.write(data)
                await writer.drain()

    def _note_request(self, data: bytes) -> bool:
        self._request = self._request + data if self._waiting_for_answer else data
        self._waiting_for_answer = True
        if self._cut is None:
            self._cut = self._proxy.matching_cut(self._request)
        return True

    def _note_answer(self, data: bytes) -> bool:
        if self._waiting_for_answer:
            self._waiting_for_answer = False
            self._proxy.count_round_trip()
        if self._cut is None:
            return True
        self._answer += data
        if self._cut.answered(self._answer):
            self.abort()
            self._proxy.cut_carried_out(self._cut)
        return False


class FaultProxy:
    """Forwards connections to a server; `async with FaultProxy(server.host, server.port) as proxy`.

    `connections` are open now, `accepted` is their number ever, `held` the transfers that a black hole keeps, and
    `round_trips` the number of times that the server has answered what a client had sent.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self.server_host = host
        self.server_port = port
        self.port = free_port()
        self.accepted = 0
        self.round_trips = 0
        self.held = 0
        self._delay = 0.0
        self._open = asyncio.Event()
        self._changed = asyncio.Event()
        self._listener: socket.socket | None = None
        self._cuts: list[_Cut] = []
        self._links: dict[asyncio.Task[None], _Link | None] = {}

    async def __aenter__(self) -> FaultProxy:
        self.pass_through()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        self.cut()
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        return len(self._links)

    def dsn(self, server_dsn: str) -> str:
        """Return the DSN that reaches the same database through the proxy."""
        return dsns.at(server_dsn, self.host, self.port)

    def pass_through(self) -> None:
        """End every fault: accept, forward at once, and let go what a black hole has kept."""
        self._delay = 0.0
        self._cuts.clear()
        self._open.set()
        self._listen()

    def refuse(self) -> None:
        """Refuse new connections (ECONNREFUSED); the present ones stay, see `cut`."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def delay(self, seconds: float) -> None:
        """Delay everything, in each direction."""
        self._delay = seconds

    def black_hole(self) -> None:
        """Accept connections and data, and forward nothing until `pass_through`; what was sent is kept until then."""
        self._open.clear()

    def cut(self) -> None:
        """Close the present connections at once."""
        for task, link in self._links.items():
            if link is not None:
                link.abort()
            task.cancel()

    def cut_after_request(
        self, matches: Predicate, count: int = 1, answered: Predicate = ready_for_query
    ) -> asyncio.Event:
        """Carry out the next `count` matching requests, drop their answers and close their connections.

        `matches` sees what a client has sent since the last answer, `answered` what the server has answered since the
        request. The returned event is set after the last cut.
        """
        order = _Cut(matches, answered, count)
        self._cuts.append(order)
        return order.done

    async def wait_until(self, condition: Callable[[FaultProxy], bool], timeout: float = 10) -> None:
        """Wait until the proxy's numbers fulfil a condition: `lambda proxy: proxy.connections == 0`."""

        async def work() -> None:
            while not condition(self):
                await self._changed.wait()

        await asyncio.wait_for(work(), timeout)

    async def passage(self) -> None:
        """Wait as long as data are to be kept or delayed."""
        if not self._open.is_set():
            self.held += 1
            self._announce()
            try:
                await self._open.wait()
            finally:
                self.held -= 1
                self._announce()
        if self._delay:
            await asyncio.sleep(self._delay)

    def matching_cut(self, request: bytes) -> _Cut | None:
        for order in self._cuts:
            if order.to_match and order.matches(request):
                order.to_match -= 1
                return order
        return None

    def cut_carried_out(self, order: _Cut) -> None:
        order.to_carry_out -= 1
        if not order.to_carry_out:
            order.done.set()
        self._announce()

    def count_round_trip(self) -> None:
        self.round_trips += 1
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _listen(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server((self.host, self.port), backlog=100)
            self._listener.setblocking(False)
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()[0] if self._listener else None
        except OSError:
            return
        if connection is None:
            return
        connection.setblocking(False)
        task = asyncio.ensure_future(self._serve(connection))
        self._links[task] = None
        self.accepted += 1
        task.add_done_callback(lambda task: self._forget(task, connection))
        self._announce()

    async def _serve(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise
        link = self._links[task] = _Link(self, reader, writer)
        await link.run()

    def _forget(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        if self._links.pop(task) is None:
            # Cancelled before its first step, so that nobody else closes it.
            connection.close()
        self._announce()
