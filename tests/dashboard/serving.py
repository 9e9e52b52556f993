"""A dashboard as it is served, and whoever looks at it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import uvicorn

from mcp_persist_sa import Store
from mcp_persist_sa.dashboard import Dashboard
from tests.contract.support import PATIENCE

TOKEN = "the-token-of-these-tests"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """A dashboard that is served."""

    def __init__(self, port: int, dashboard: Dashboard) -> None:
        self.port = port
        self.dashboard = dashboard

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{TOKEN}/"

    async def send(self, path: str, headers: Mapping[str, str] | None = None, *, method: str = "GET") -> Answer:
        """Send a request for a path as it stands."""

        def work() -> Answer:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
            given = {"Host": f"127.0.0.1:{self.port}"} if headers is None else headers
            connection.putrequest(method, path, skip_host=True)
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            answer = Answer(response.status, {**response.headers}, response.read())
            connection.close()
            return answer

        return await asyncio.to_thread(work)

    async def get(self, path: str, **values: str) -> Answer:
        """What whoever knows the token gets."""
        return await self.send(f"/{TOKEN}/{path}?{urlencode(values)}")

    @asynccontextmanager
    async def feed(self, session_id: str | None = None) -> AsyncGenerator[Heard, None]:
        """What is told."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        asked = "" if session_id is None else f"?{urlencode({'session': session_id})}"
        writer.write(f"GET /{TOKEN}/feed{asked} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            assert head.startswith(b"HTTP/1.1 200"), head
            assert b"text/event-stream" in head
            yield Heard(_told(reader))
        finally:
            writer.close()


class Heard:
    """What a feed tells, of which one waits for what one looks for."""

    def __init__(self, told: AsyncIterator[tuple[str, Any]]) -> None:
        self._told = told

    async def until(self, name: str, condition: Callable[[Any], Any] = lambda _: True) -> Any:
        """What is told of that name, as soon as it is as it should be."""
        last: Any = None

        async def work() -> Any:
            nonlocal last
            async for told, data in self._told:
                last = (told, data)
                if told == name and condition(data):
                    return data
            raise AssertionError(f"The feed has ended; it told last {last}")

        try:
            return await asyncio.wait_for(work(), 2 * PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"{name} was never as expected; told last: {last}") from None


async def _told(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, Any]]:
    while size := await reader.readline():
        chunk = await reader.readexactly(int(size, 16))
        await reader.readexactly(2)
        if not chunk:
            return
        name, data = chunk.decode().split("\n")[:2]
        yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@asynccontextmanager
async def served(store: Store, *, port: int = 0, **options: Any) -> AsyncGenerator[Site, None]:
    """Serve the dashboard of a store that was not opened."""
    dashboard = Dashboard(store, token=TOKEN, **options)
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
        server = uvicorn.Server(uvicorn.Config(dashboard, log_level="warning", ws="none", server_header=False))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        try:
            yield Site(listening.getsockname()[1], dashboard)
        finally:
            dashboard.end()
            server.should_exit = True
            await asyncio.wait_for(serving, PATIENCE)
