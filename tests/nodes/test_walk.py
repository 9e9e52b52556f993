"""The pages on getting started and on deploying, as their reader follows them: real processes, and the SDK's client."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import signal
import urllib.request
from collections.abc import AsyncIterator
from configparser import ConfigParser
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.error import HTTPError

import pytest
import pytest_asyncio
from sse_starlette import EventSourceResponse

from mcp_persist_sa.dsn import ENVIRONMENT
from tests.nodes.conftest import Interpreter
from tests.nodes.test_examples import Example
from tests.nodes.wire import PATIENCE
from tests.pages import DOCS, block, blocks, shell
from tests.servers import ChildProcess, PostgresServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

START, DEPLOYING = DOCS / "start.md", DOCS / "deploying.md"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


class Walk:
    """What a reader has: a folder with files of a page, and an environment's programs."""

    def __init__(self, folder: Path, interpreter: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.interpreter = interpreter
        self._stack = stack

    def save(self, name: str, code: str) -> None:
        (self.folder / name).write_text(code)

    async def serve(self, command: str, dsn: str) -> Example:
        program, *words = shlex.split(command)
        server = Example(self.folder, self.interpreter.with_name(program), *words, servers=1, **{ENVIRONMENT: dsn})
        return await self._stack.enter_async_context(server)

    async def run(self, name: str) -> ChildProcess:
        child = ChildProcess(name, interpreter=self.interpreter, cwd=self.folder, timeout=PATIENCE)
        return await self._stack.enter_async_context(child)


@pytest_asyncio.fixture(loop_scope="session")
async def walk(tmp_path: Path, interpreter: Interpreter) -> AsyncIterator[Walk]:
    async with AsyncExitStack() as stack:
        yield Walk(tmp_path, Path(interpreter("mcp2")), stack)


async def cart(client: ChildProcess) -> tuple[str, str]:
    """What is in it, and the process that says so."""
    found = re.search(r"([a-z, ]+) \(process (\d+)\)$", (await client.read_line()).rpartition("Enter. ")[2])
    assert found is not None
    return found[1], found[2]


async def test_one_minute(walk: Walk) -> None:
    walk.save("server.py", block(START, "python", "persist(mcp)"))
    given, command = blocks(START, "sh")[1].splitlines()
    server = await walk.serve(command.replace("8001", "{port}"), given.partition("=")[2])
    walk.save("client.py", block(START, "python", "press Enter").replace("8001", str(server.port)))
    client = await walk.run("client.py")
    seen = [await cart(client)]
    for _ in range(2):
        await server.kill_and_start()
        await client.write_line()
        seen.append(await cart(client))
    await client.write_line()
    assert await client.wait() == 0, client.errors()
    assert [items for items, _ in seen] == ["apple", "apple, pear", "apple, pear, plum"]
    assert len({process for _, process in seen}) == 3
    assert (walk.folder / "server.db").exists()


async def test_two_nodes_on_postgres(walk: Walk, own_postgres: PostgresServer) -> None:
    dsn = own_postgres.create_database("walk")
    script = block(START, "sh", "doctor").replace("postgresql://user:password@host/database", dsn)
    assert dsn in script
    done = await asyncio.to_thread(shell, script, walk.folder, walk.interpreter.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    walk.save("server.py", block(START, "python", "persist(mcp)"))
    commands = [re.sub(r"\d{4}", "{port}", each.splitlines()[-1]) for each in blocks(START, "sh") if "uvicorn" in each]
    nodes = [await walk.serve(command, dsn) for command in commands[1:]]
    code = block(START, "python", "InTurns")
    for node, port in zip(nodes, ("8001", "8002"), strict=True):
        code = code.replace(port, str(node.port))
    walk.save("turns.py", code)
    client = await walk.run("turns.py")
    seen = [await cart(client) for _ in range(4)]
    assert await client.wait() == 0, client.errors()
    assert seen[-1][0] == "apple, pear, plum, fig"
    assert len({process for _, process in seen}) == 2


# Deploying


def of_unit(page: Path) -> str:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block(page, "ini", "[Unit]"))
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert "Environment=" not in block(page, "ini", "[Unit]")
    return shlex.join([Path(program).name, *words]).replace("%i", "{port}")


def of_image(page: Path) -> str:
    [command] = re.findall(r"^CMD (\[.*\])$", block(page, "dockerfile", "FROM"), re.MULTILINE)
    words: list[str] = json.loads(command)
    return shlex.join([*words, "--port", "{port}"]).replace("0.0.0.0", "127.0.0.1")


def request(url: str, host: str, body: object = None, **headers: str) -> tuple[int, dict[str, str]]:
    """The status and the headers of a response."""
    given = {"Accept": "application/json, text/event-stream", "Host": host, **headers}
    data = None if body is None else json.dumps(body).encode()
    whole = urllib.request.Request(url, data, {**given, "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(whole, timeout=PATIENCE) as response:
            return response.status, {name.lower(): value for name, value in response.headers.items()}
    except HTTPError as error:
        return error.code, {}


@pytest.mark.parametrize("command", [of_unit(DEPLOYING), of_image(DEPLOYING)], ids=["systemd", "container"])
async def test_a_node_as_it_is_deployed(walk: Walk, command: str) -> None:
    walk.save("server.py", block(DEPLOYING, "python", "/ready"))
    server = await walk.serve(command, "sqlite:///server.db")
    asked = [("shop.example.com", 200), ("elsewhere.example.com", 421)]
    for host, expected in asked:
        assert (await asyncio.to_thread(request, server.url, host, INITIALIZE))[0] == expected
    status, headers = await asyncio.to_thread(request, server.url, "shop.example.com", INITIALIZE)
    session = {"Mcp-Session-Id": headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
    assert (status, headers["x-accel-buffering"]) == (200, "no")
    # Of the layer's own.
    status, headers = await asyncio.to_thread(request, server.url, "shop.example.com", **session)
    assert (status, headers["x-accel-buffering"]) == (200, "no")
    assert EventSourceResponse.DEFAULT_PING_INTERVAL == 15
    ready = server.url.replace("/mcp", "/ready")
    assert (await asyncio.to_thread(request, ready, "shop.example.com"))[0] == 200
    assert await server.stop(signal.SIGTERM) == -signal.SIGTERM
