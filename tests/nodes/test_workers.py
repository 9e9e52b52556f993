"""Several processes behind one port, among which the kernel chooses: no balancer could be less sticky."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.hunts.support import eventually
from tests.nodes.client import Client
from tests.nodes.conftest import Interpreter
from tests.nodes.wire import PATIENCE
from tests.nodes.workers import OPTIONS
from tests.servers import ChildProcess
from tests.servers.spawning import free_port

WORKERS = 4


@asynccontextmanager
async def _served(interpreter: Path, dsn: str) -> AsyncGenerator[Client, None]:
    port = free_port()
    words = ("-m", "uvicorn", "tests.nodes.workers:app", "--port", str(port), "--workers", str(WORKERS))
    env = {OPTIONS: json.dumps({"host": "mcpserver", "dsn": dsn})}
    child = ChildProcess(*words, "--log-level", "warning", interpreter=interpreter, env=env, timeout=PATIENCE)
    async with child, Client(("127.0.0.1", port)) as client:

        async def serves() -> bool:
            try:
                await client.initialize()
            except OSError:
                return False
            return True

        try:
            await eventually("a worker serves", serves)
            yield client
        finally:
            # Killed, it would leave its workers behind.
            child.send_signal(signal.SIGTERM)
            await child.wait()


async def test_workers_share_their_sessions(interpreter: Interpreter, tmp_path: Path) -> None:
    async with _served(interpreter("mcp2"), f"sqlite:///{tmp_path / 'store.db'}?node_lease=2") as client:
        assert await client.result("remember", key="colour", value="red") == "remembered"
        pids = set[str]()

        async def all_have_served() -> bool:
            answers = await asyncio.gather(*(client.result("who") for _ in range(WORKERS)))
            pids.update(answers)
            return len(pids) == WORKERS

        await eventually("every worker has served the session", all_have_served)
        assert {await client.result("recall", key="colour") for _ in range(2 * WORKERS)} == {"red"}
        os.kill(int(min(pids)), signal.SIGKILL)

        async def goes_on() -> bool:
            try:
                return await client.result("recall", key="colour") == "red"
            except (OSError, EOFError):
                # The dead worker had taken this one.
                return False

        await eventually("the others go on", goes_on)


pytestmark = pytest.mark.timeout(180)
