"""What the tests of operations share: commands as processes, and waiting for what others do."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mcp_persist_sa.dsn import ENVIRONMENT
from tests.contract.support import PATIENCE

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))


class Said(NamedTuple):
    code: int
    out: str
    errors: str

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


async def begin(*words: str, dsn: str, folder: Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        COMMAND, *words, cwd=folder, env={**os.environ, ENVIRONMENT: dsn}, stdout=pipe, stderr=pipe
    )


async def until(reached: Callable[[Any], bool], count: Callable[[], Any]) -> None:
    """Look until the count is such; for half of the time, because a look may cost as much as what it looks for."""

    async def look() -> None:
        begin = time.monotonic()
        while not reached(await count()):
            await asyncio.sleep(max(0.01, time.monotonic() - begin))
            begin = time.monotonic()

    await asyncio.wait_for(look(), 3 * PATIENCE)
