"""Opens stores, in a process of its own, and prints how many KiB of memory each takes but the first."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import contestants
from benchmarks.databases import Database
from benchmarks.messages import SMALL, messages
from benchmarks.server import resident

_HERE = Path("/proc/self")


async def _open(name: str, backend: str, dsns: list[str]) -> float:
    async with AsyncExitStack() as stack:
        before = 0.0
        for dsn in dsns:
            contestant = await stack.enter_async_context(contestants.ALL[name](Database(backend, dsn)))
            await contestant.fill("one", messages(SMALL)[:2])
            before = before or resident(_HERE)
        return (resident(_HERE) - before) / (len(dsns) - 1)


if __name__ == "__main__":
    print(asyncio.run(_open(*json.loads(sys.argv[1]))))
