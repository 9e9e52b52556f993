"""How long a client waits for its first answer from a node that did not open its session, beside the second."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.client import Address, Client
from benchmarks.contestants import mcp_persist, ours
from benchmarks.server import running

_AT_A_TIME = 5


class Nodes(NamedTuple):
    """Two servers on one database."""

    opening: Address
    adopting: Address


async def measure(bench: Bench) -> None:
    """Measure both packages."""
    if bench.quick and bench.backend != "sqlite":
        return
    series = bench.new_series("tools/list of a session that another node opened", unit="ms", better="lower")
    async with AsyncExitStack() as stack:
        nodes: dict[str, Nodes] = {}
        for name in (mcp_persist.NAME, ours.NAME):
            database = await stack.enter_async_context(bench.database(migrated=name == ours.NAME))
            pair = await asyncio.gather(*(stack.enter_async_context(running(name, database)) for _ in range(2)))
            nodes[name] = Nodes(*(each.address for each in pair))
        runs = {name: partial(_one_round, each) for name, each in nodes.items()}
        rounds = await bench.take_turns(runs, seconds=1.5)
        for place, point in enumerate(("first request", "second request")):
            series.record(point, {name: [each[place] for each in results] for name, results in rounds.items()})


async def _one_round(nodes: Nodes) -> tuple[float, float]:
    """Milliseconds for the first and the second request at the other node, on average."""
    totals = [0.0, 0.0]
    for _ in range(_AT_A_TIME):
        opening = Client(nodes.opening)
        await opening.open()
        adopting = Client(nodes.adopting, session_id=opening.session_id)
        await adopting.open()
        for place in range(2):
            begin = time.perf_counter()
            await adopting.request("tools/list", {})
            totals[place] += (time.perf_counter() - begin) * 1000
        opening.close()
        adopting.close()
    return totals[0] / _AT_A_TIME, totals[1] / _AT_A_TIME
