"""`serve`: the server of a module, durable."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.support import PATIENCE
from tests.servers.spawning import free_port

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))
MODULE = """
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("shop")
nothing = None
"""
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def write_module(folder: Path) -> None:
    (folder / "shop.py").write_text(MODULE)


async def start(*words: str, folder: Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        COMMAND, "serve", *words, cwd=folder, env={**os.environ}, stdout=pipe, stderr=pipe
    )


@asynccontextmanager
async def served(port: int, folder: Path, host: str = "127.0.0.1") -> AsyncGenerator[str, None]:
    where = ["--host", host, "--port", str(port), "--path", "/tools"]
    child = await start("shop:mcp", *where, "--dsn", "sqlite:///shop.db", folder=folder)
    try:
        assert child.stderr is not None
        said = ""
        while "Uvicorn running" not in said:
            line = await asyncio.wait_for(child.stderr.readline(), 3 * PATIENCE)
            said += line.decode()
            assert line, said
        yield f"http://{host}:{port}/tools"
        child.send_signal(signal.SIGTERM)
        await asyncio.wait_for(child.communicate(), 3 * PATIENCE)
        assert child.returncode == -signal.SIGTERM
    finally:
        if child.returncode is None:
            child.kill()


async def post(url: str, message: dict[str, Any], session_id: str | None = None) -> tuple[int, str | None]:
    """The status, and the session id."""
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if session_id is not None:
        headers["Mcp-Session-Id"] = session_id
    request = urllib.request.Request(url, json.dumps({"jsonrpc": "2.0", **message}).encode(), headers)

    def send() -> tuple[int, str | None]:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            response.read()
            return response.status, response.headers.get("Mcp-Session-Id")

    return await asyncio.to_thread(send)


async def test_an_error_of_the_module_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import json\njson.nothing\n")
    child = await start("shop:mcp", "--dsn", "sqlite:///shop.db", folder=tmp_path)
    _, errors = await asyncio.wait_for(child.communicate(), 3 * PATIENCE)
    assert child.returncode == 1
    assert "json.nothing" in errors.decode()
    assert "the name of the server" not in errors.decode()


async def test_it_answers_at_the_address_that_it_is_given(tmp_path: Path) -> None:
    write_module(tmp_path)
    async with served(free_port(), tmp_path, host="127.0.0.2") as url:
        assert (await post(url, {"id": 1, "method": "initialize", "params": INITIALIZE}))[0] == 200


async def test_its_sessions_outlive_the_process(tmp_path: Path) -> None:
    write_module(tmp_path)
    port = free_port()
    async with served(port, tmp_path) as url:
        status, session_id = await post(url, {"id": 1, "method": "initialize", "params": INITIALIZE})
        assert status == 200
        assert session_id
        await post(url, {"method": "notifications/initialized"}, session_id)
    async with served(port, tmp_path) as url:
        assert (await post(url, {"id": 2, "method": "tools/list"}, session_id))[0] == 200


REFUSED = [
    (["shop"], 2, "does not name a server"),
    (["nowhere:mcp"], 1, "No module named 'nowhere'"),
    (["shop:server"], 1, "Is 'server' the name of the server?"),
    (["shop:nothing"], 1, "MCPServer"),
    (["shop:mcp", "--dsn", "sqlite:////nowhere/at/all/x.db"], 1, "does not exist"),
    (["shop:mcp", "--dsn", "postgresql://user:hunter2@127.0.0.1:1/db"], 1, "can be reached"),
    (["shop:mcp", "--port", "x"], 2, "--port"),
]


@pytest.mark.parametrize(("words", "expected", "reason"), REFUSED, ids=lambda value: str(value)[:40])
async def test_what_cannot_be_served_is_said(words: list[str], expected: int, reason: str, tmp_path: Path) -> None:
    write_module(tmp_path)
    given = words if "--dsn" in words else [*words, "--dsn", "sqlite:///shop.db"]
    child = await start(*given, folder=tmp_path)
    out, errors = await asyncio.wait_for(child.communicate(), 3 * PATIENCE)
    assert (child.returncode, out) == (expected, b"")
    assert reason in errors.decode()
    assert "Traceback" not in errors.decode()
    assert "hunter2" not in errors.decode()
