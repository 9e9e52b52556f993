"""A stream of any size is read with little memory: a page moves no more than it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ChildProcess

_READER = """
import asyncio, resource, sys
from mcp_persist_sa import NewEvent, open_store

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

async def main():
    async with open_store(sys.argv[1], page_bytes=1_000_000) as store:
        for n in range(6):
            await store.append_many("session", "1", [NewEvent("x" * 1_000_000)] * 10)
        await store.append("session", "1", None, final=True)
    async with open_store(sys.argv[1], page_bytes=1_000_000) as store:
        await store.append("session", "2", "x")
        await store.read("session", stream_id="2")
        before, count = peak(), 0
        async for item in store.tail("session", stream_id="1"):
            count += 1
        print(count, peak() - before)

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_stream_of_60_megabytes_is_read_in_a_few(
    kind: str, tmp_path: Path, new_postgres: Callable[[], str]
) -> None:
    dsn = f"sqlite:///{tmp_path / 'store.db'}" if kind == "sqlite" else new_postgres()
    async with ChildProcess("-c", _READER, dsn, timeout=120) as child:
        count, megabytes = (int(number) for number in (await child.read_line()).split())
    assert (count, megabytes < 40) == (61, True), megabytes
