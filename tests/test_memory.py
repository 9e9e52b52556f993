"""A stream of any size is read with little memory: a page moves no more than it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_persist_sa import Event, NewEvent, open_store
from mcp_persist_sa.backends.sql.backend import SQLBackend
from mcp_persist_sa.identity import EventId
from mcp_persist_sa.stretches import Stretch
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


async def test_a_page_that_ended_at_its_bytes_is_followed_by_one_of_not_many_more_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that counts bytes looks at all that it may give."""
    limits: list[int] = []
    read = SQLBackend.read

    async def noted(backend: SQLBackend, session_key: str, after: EventId, *, limit: int, max_bytes: int) -> Stretch:
        limits.append(limit)
        return await read(backend, session_key, after, limit=limit, max_bytes=max_bytes)

    monkeypatch.setattr(SQLBackend, "read", noted)
    sizes = [*[100] * 30, *[1] * 100]
    async with open_store(f"sqlite:///{tmp_path / 'store.db'}", page_events=50, page_bytes=1000) as store:
        ids = await store.append_many("session", "1", [NewEvent("x" * size) for size in sizes])
        await store.append("session", "1", None, final=True)
        found = [item async for item in store.tail("session", stream_id="1")]
    assert [item.event_id for item in found[:-1] if isinstance(item, Event)] == ids
    assert limits == [50, 13, 13, 13, 50, 50]
