"""Nodes of one release serve while the next one changes the tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_persist_sa import open_store
from mcp_persist_sa.errors import SchemaAhead
from mcp_persist_sa.migrate import upgrade
from tests.migrations.extra import EXPAND, REBUILD, add_revision
from tests.migrations.support import Target
from tests.servers import ChildProcess

STEPS = 20

Nodes = dict[str, ChildProcess]


@pytest.fixture
async def nodes(target: Target) -> AsyncIterator[Nodes]:
    """Two nodes of this release, each of which follows what the other writes."""
    await upgrade(target.dsn)
    async with AsyncExitStack() as stack:
        started: Nodes = {}
        for mine, other in (("a", "b"), ("b", "a")):
            child = ChildProcess("-m", "tests.migrations.node", target.dsn, mine, other, timeout=60)
            started[mine] = await stack.enter_async_context(child)
        for child in started.values():
            await child.wait_for_line("ready")
        yield started


async def further(nodes: Nodes, steps: int = STEPS) -> None:
    """Wait until each node has written more."""
    for child in nodes.values():
        for _ in range(steps):
            await child.wait_for_line("written ")


async def written(nodes: Nodes) -> dict[str, int]:
    """Stop the nodes; nothing of what one wrote may be missing for the other."""
    for child in nodes.values():
        await child.write_line("stop")
    ends = {name: json.loads(await child.wait_for_line("{")) for name, child in nodes.items()}
    assert [await child.wait() for child in nodes.values()] == [0, 0]
    assert ends["a"]["followed"] == ends["b"]["written"]
    assert ends["b"]["followed"] == ends["a"]["written"]
    return {name: end["written"] for name, end in ends.items()}


async def migrate(target: Target, folder: Path) -> None:
    await asyncio.to_thread(target.upgrade, folder=folder)


async def read_again(target: Target, written: dict[str, int]) -> None:
    async with open_store(target.dsn, page_events=100_000) as store:
        for name, count in written.items():
            page = await store.read(name, stream_id="stream")
            assert [event.message for event in page.events] == [str(number) for number in range(1, count + 1)]
            assert await store.state(name).get("number") == count - 1
        assert await store.sessions.count() == sum(written.values()) - 2


@pytest.mark.parametrize("body", [EXPAND, REBUILD], ids=["expand", "rebuild"])
async def test_nodes_serve_while_the_tables_change_under_them_and_new_ones_open(
    target: Target, folder: Path, nodes: Nodes, body: str
) -> None:
    revision = add_revision(folder, body)
    await further(nodes)
    await migrate(target, folder)
    await further(nodes)
    await read_again(target, await written(nodes))
    assert target.revision() == revision


async def test_a_contracting_revision_keeps_older_nodes_from_opening(
    target: Target, folder: Path, nodes: Nodes
) -> None:
    add_revision(folder, EXPAND)
    await migrate(target, folder)
    await further(nodes)
    async with open_store(target.dsn) as store:
        await store.append("session", "stream", "{}")
    contracting = add_revision(folder, 'op.drop_table("mcp_extra")', contracts=True)
    await migrate(target, folder)
    with pytest.raises(SchemaAhead, match=f"at {contracting} and needs release 9.9.0 or newer"):
        async with open_store(target.dsn):
            pass
    await further(nodes)
    await written(nodes)
