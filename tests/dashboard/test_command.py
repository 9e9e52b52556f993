"""The command, as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mcp_persist_sa import open_store
from tests.contract.support import PATIENCE

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))


async def start(*words: str, folder: Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(COMMAND, "dashboard", *words, cwd=folder, stdout=pipe, stderr=pipe)


@asynccontextmanager
async def running(folder: Path, *words: str) -> AsyncGenerator[tuple[asyncio.subprocess.Process, str, str], None]:
    async with open_store(f"sqlite:///{folder / 'shop.db'}") as store:
        session = await store.sessions.create()
    child = await start("--dsn", "sqlite:///shop.db", "--port", "0", "--json", *words, folder=folder)
    try:
        assert child.stdout is not None
        line = await asyncio.wait_for(child.stdout.readline(), 3 * PATIENCE)
        yield child, json.loads(line)["url"], session.session_id
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_it_shows_the_store_until_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    async with running(tmp_path) as (child, url, session_id):
        assert urlsplit(url).hostname == "127.0.0.1"
        assert len(urlsplit(url).path) > 30

        def ask() -> bytes:
            with urllib.request.urlopen(f"{url}api/sessions", timeout=PATIENCE) as answer:
                return answer.read()

        assert [each["id"] for each in json.loads(await asyncio.to_thread(ask))["sessions"]] == [session_id]
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(f"GET {urlsplit(url).path}feed HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b"event: figures"), PATIENCE)
        child.send_signal(number)
        out, errors = await asyncio.wait_for(child.communicate(), PATIENCE)
        writer.close()
        assert (child.returncode, out, errors) == (0 if number == signal.SIGINT else -number, b"", b"")


async def test_each_start_has_an_address_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, one, _), running(tmp_path) as (_, other, _):
        assert urlsplit(one).path != urlsplit(other).path


async def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'shop.db'}"):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = [
            (["--dsn", "sqlite:///nowhere.db"], 1, "does not exist"),
            (["--dsn", "sqlite://"], 1, "in memory"),
            (["--dsn", "postgresql://user:hunter2@127.0.0.1:1/db"], 1, "can be reached"),
            (["--dsn", "sqlite:///shop.db", "--port", str(taken.getsockname()[1])], 1, "Choose another by --port"),
            (["--dsn", "sqlite:///shop.db", "--port", "x"], 2, "--port"),
        ]
        for words, code, reason in refused:
            child = await start(*words, folder=tmp_path)
            out, errors = await asyncio.wait_for(child.communicate(), 3 * PATIENCE)
            assert (words, child.returncode, out) == (words, code, b"")
            assert reason in errors.decode()
            assert "Traceback" not in errors.decode()
            assert "hunter2" not in errors.decode()
