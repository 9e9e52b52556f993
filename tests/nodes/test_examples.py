"""The examples, each as its reader runs it: a real process, and an SDK's own client."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_persist_sa.dsn import ENVIRONMENT
from tests.databases import Database
from tests.nodes.conftest import Interpreter
from tests.nodes.test_official import ask, said
from tests.nodes.wire import PATIENCE
from tests.servers import ChildProcess
from tests.servers.processes import REPOSITORY
from tests.servers.spawning import free_port, poll

pytestmark = pytest.mark.asyncio(loop_scope="session")

EXAMPLES = REPOSITORY / "examples"
TESTED = [
    *("mcpserver_sqlite.py", "fastmcp1_sqlite.py", "fastmcp4_sqlite.py", "fastapi_mount.py", "manual_wiring.py"),
    *("session_state.py", "continue_session.py", "two_nodes.py", "resume_with_curl.sh"),
]
EACH_ONCE = [[number, 5, None] for number in range(1, 6)]


class Example:
    """An example that serves, in a folder of its own; it can be killed and started again."""

    def __init__(
        self, folder: Path, interpreter: Path | str, *words: str, servers: int = 1, **environment: str
    ) -> None:
        self.port = free_port()
        self._folder = folder
        self._interpreter = interpreter
        self._words = [word.format(port=self.port) for word in words]
        self._environment = environment
        self._servers = servers
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    async def __aenter__(self) -> Example:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child is not None:
            await self._child.__aexit__(None, None, None)

    async def start(self) -> None:
        child = ChildProcess(
            *self._words, interpreter=self._interpreter, env=self._environment, cwd=self._folder, timeout=PATIENCE
        )
        self._child = await child.__aenter__()
        await asyncio.to_thread(poll, lambda: self._ended_or_serves(child), "the example serves", PATIENCE)
        assert child.returncode is None, child.errors()

    def _ended_or_serves(self, child: ChildProcess) -> bool:
        # A process that is given its socket by another one does not say that it listens.
        sign = "Uvicorn running" if self._servers == 1 else "Application startup complete"
        return child.returncode is not None or child.errors().count(sign) == self._servers

    async def kill_and_start(self) -> None:
        await self.__aexit__()
        await self.start()

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C does, or by another signal."""
        assert self._child is not None
        self._child.send_signal(number)
        return await self._child.wait()


class Examples:
    """Starts examples and clients that end with the test."""

    def __init__(self, interpreter: Interpreter, folder: Path, stack: AsyncExitStack) -> None:
        self.interpreter = interpreter
        self.folder = folder
        self._stack = stack

    async def server(self, name: str, line: str = "mcp2") -> Example:
        # Only the environment of the tests has FastAPI.
        interpreter = sys.executable if name == "fastapi_mount" else self.interpreter(line)
        words = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), f"{name}:app", "--port", "{port}")
        return await self._stack.enter_async_context(Example(self.folder, interpreter, *words))

    async def client(self, url: str, line: str = "mcp2") -> ChildProcess:
        words = ("-m", "tests.nodes.official", line, url)
        client = ChildProcess(*words, interpreter=self.interpreter(line), timeout=PATIENCE)
        entered = await self._stack.enter_async_context(client)
        assert "connected" in await said(entered)
        return entered

    async def run(self, *words: str) -> str:
        """Run a program to its end, and give its last line."""
        child = ChildProcess(*words, interpreter=self.interpreter("mcp2"), cwd=self.folder, timeout=PATIENCE)
        async with child:
            line = await child.read_line()
            assert await child.wait() == 0, child.errors()
        return line


@pytest_asyncio.fixture(loop_scope="session")
async def examples(interpreter: Interpreter, tmp_path: Path) -> AsyncIterator[Examples]:
    async with AsyncExitStack() as stack:
        yield Examples(interpreter, tmp_path, stack)


async def result(client: ChildProcess, tool: str, **arguments: Any) -> str:
    return (await ask(client, tool, **arguments))[-1]["result"]


async def test_every_example_is_tested() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_file()) == sorted(TESTED)


@pytest.mark.parametrize(
    ("name", "line"), [("mcpserver_sqlite", "mcp2"), ("fastmcp1_sqlite", "mcp1"), ("fastmcp4_sqlite", "fastmcp4")]
)
async def test_a_server_on_sqlite(examples: Examples, name: str, line: str) -> None:
    server = await examples.server(name, line)
    client = await examples.client(server.url, line)
    for _ in range(2):
        *progress, answer = await ask(client, "count", to=5)
        assert ([each["progress"] for each in progress], answer) == (EACH_ONCE, {"result": "Counted to 5."})
        await server.kill_and_start()
    assert (examples.folder / "counter.db").exists()


async def test_state_of_a_session(examples: Examples) -> None:
    server = await examples.server("session_state")
    client = await examples.client(server.url)
    await result(client, "add", item="apple")
    await server.kill_and_start()
    await result(client, "add", item="pear")
    cart = await result(client, "show")
    assert (cart.index("apple") < cart.index("pear"), "true" in cart) == (True, False)
    assert "Paid for 2" in await result(client, "pay")
    assert "paid already" in await result(client, "pay")


async def test_a_session_that_another_process_continues(examples: Examples) -> None:
    server = await examples.server("session_state")
    program = str(EXAMPLES / "continue_session.py")
    session_id = await examples.run(program, server.url)
    await server.kill_and_start()
    assert "apple" in await examples.run(program, server.url, session_id)


async def test_a_mounted_server(examples: Examples) -> None:
    server = await examples.server("fastapi_mount")
    client = await examples.client(f"http://127.0.0.1:{server.port}/tools/mcp")
    assert await result(client, "visit") == "1"
    await server.kill_and_start()
    assert await result(client, "visit") == "2"


async def test_wiring_by_hand(examples: Examples) -> None:
    server = await examples.server("manual_wiring")
    client = await examples.client(server.url)
    session_id = await result(client, "whoami")
    await server.kill_and_start()
    assert await result(client, "whoami") == session_id


@pytest.mark.parametrize("kind", ["postgres", "valkey"])
async def test_two_nodes(kind: str, examples: Examples, new_database: Callable[[str], Database]) -> None:
    dsn = new_database(kind).dsn
    program = str(EXAMPLES / "two_nodes.py")
    interpreter = examples.interpreter("mcp2")
    example = Example(examples.folder, interpreter, program, "{port}", **{ENVIRONMENT: dsn}, servers=2)
    async with example:
        try:
            await look_around(await examples.client(example.url))
        finally:
            # Not killed: it has children of its own to end.
            assert await example.stop() == 0


async def look_around(client: ChildProcess) -> None:
    answers = [await result(client, "visit") for _ in range(6)]
    assert [re.findall("Visit ([0-9]+)", answer) for answer in answers] == [[str(number)] for number in range(1, 7)]
    assert len({answer.split("process")[1] for answer in answers}) == 2
    await client.close_input()
    assert await said(client) == {"closed": True}


async def test_the_walk_with_curl(examples: Examples) -> None:
    server = await examples.server("mcpserver_sqlite")
    pipe = asyncio.subprocess.PIPE
    script = str(EXAMPLES / "resume_with_curl.sh")
    child = await asyncio.create_subprocess_exec("bash", script, server.url, stdout=pipe, stderr=pipe)
    output, errors = await asyncio.wait_for(child.communicate(), PATIENCE)
    assert child.returncode == 0, errors
    heard = [int(number) for number in re.findall(r'"progress":(\d+)', output.decode())]
    assert heard == list(range(1, 21))
    assert all(count == 1 for count in Counter(re.findall("^id: (.*)$", output.decode(), re.MULTILINE)).values())
    cut = output.decode().partition("Last-Event-ID")[0]
    assert '"progress":20' not in cut
    assert "Counted to 20." in output.decode().removeprefix(cut)
    assert "status 200" in output.decode()
