"""Connections that break at random while events come fast, and resume on either node: nothing is lost or doubled.

The CI runs a small number of disconnects, which MCP_PERSIST_SA_TEST_HUNT multiplies: with 17, there are 1,000 on each
database. The seed is printed, and given by MCP_PERSIST_SA_TEST_HUNT_SEED; see `tests.hunts`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import count, product
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from mcp_persist_sa.migrate import upgrade
from tests.databases import SQL
from tests.hunts.support import HUNT
from tests.nodes.client import Client
from tests.nodes.cluster import Cluster
from tests.nodes.conftest import PATIENT, ProcessOf
from tests.nodes.hunting import Hunt, Line
from tests.servers import Databases

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300 * HUNT)]

DISCONNECTS = {"mcpserver": 60, "fastmcp1": 20, "fastmcp4": 20}
SESSIONS = 4
CALLS_AT_ONCE = 2

Told = tuple[Any, ...]


@pytest_asyncio.fixture(loop_scope="session", params=list(product(DISCONNECTS, SQL)), ids=lambda param: "-".join(param))
async def prey(
    request: pytest.FixtureRequest, process_of: ProcessOf, tmp_path: Path, postgres_template: Databases
) -> AsyncIterator[Cluster]:
    """Two nodes whose tails look often: nothing wakes them when the other node writes."""
    host, kind = request.param
    if kind == "postgres":
        dsn = postgres_template.clone(postgres_template.template("migrated", upgrade))
    else:
        dsn = f"sqlite:///{tmp_path / 'store.db'}"
    async with Cluster(process_of(host), host, f"{dsn}?poll_interval=0.01", persistence=PATIENT) as cluster:
        yield cluster
    if kind == "postgres":
        postgres_template.drop(dsn)


class Hunted:
    """One session: calls that report progress, calls that notify, and a listener; its request ids are everybody's."""

    def __init__(self, hunt: Hunt, number: int, client: Client) -> None:
        self._hunt = hunt
        self._name = f"session{number}"
        self._number = number
        self._client = client
        self._request_ids = count(100)
        self._listening = Line(hunt, client)
        self._notified: dict[str, int] = {}

    async def run(self) -> None:
        following = asyncio.ensure_future(self._listening.for_ever(lambda tag: self._client.open_get(x_hunt=tag)))
        # A listener hears what comes after its first event.
        await self._listening.begun()
        await asyncio.gather(*(self._calls() for _ in range(CALLS_AT_ONCE)), self._notifications())
        await self._listening.until(sum(self._notified.values()))
        await _ended(following)
        self._count_notifications()
        if self._listening.frames:
            await self._listening.replay()

    def _random(self, most: int) -> int:
        """A number that tells the answer to this session from that to another under the same request id."""
        return self._hunt.rng.randrange(2, most // SESSIONS) * SESSIONS + self._number

    async def _calls(self) -> None:
        while self._hunt.goes_on:
            request_id, to = next(self._request_ids), self._random(60)
            token = f"{self._name}/{request_id}"
            line = await self._call(request_id, token, "count", to=to)
            expected: list[Told] = [(token, f"+{number}") for number in range(1, to + 1)]
            self._hunt.tally.add(
                [*expected, (request_id, f" counted to {to}")], [_said(f.message) for f in line.frames]
            )
            await line.replay()

    async def _notifications(self) -> None:
        while self._hunt.goes_on:
            request_id, times = next(self._request_ids), self._random(60)
            label = f"{self._name}/{request_id}:"
            self._notified[label] = times
            line = await self._call(request_id, "none", "notify_every", times=times, label=label)
            self._hunt.tally.add([(request_id, " notified")], [_said(frame.message) for frame in line.frames])

    async def _call(self, request_id: int, token: str, tool: str, **arguments: Any) -> Line:
        arguments["interval_ms"] = self._hunt.rng.randrange(1, 6)
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": token}}
        message = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        line = Line(self._hunt, self._client)
        await line.to_the_end(lambda tag: self._client.post(message, x_hunt=tag))
        return line

    def _count_notifications(self) -> None:
        received = [_said(frame.message) for frame in self._listening.frames]
        for label, times in self._notified.items():
            expected = [(label, f"+{number}") for number in range(1, times + 1)]
            self._hunt.tally.add(expected, [said for said in received if said[0] == label])
        self._hunt.tally.foreign += sum(said[0] not in self._notified for said in received)


async def _ended(task: asyncio.Task[None]) -> None:
    while not task.done():
        # Before Python 3.12, `wait_for` swallows a cancellation that comes with what it waits for.
        task.cancel()
        await asyncio.wait({task}, timeout=1)
    if not task.cancelled():
        task.result()


def _said(message: dict[str, Any]) -> Told:
    """What a message says, whichever node it comes from."""
    if "method" not in message:
        return message["id"], message["result"]["content"][0]["text"][1:]
    params = message["params"]
    if "progressToken" in params:
        return params["progressToken"], params["message"][1:]
    label, text = re.fullmatch(r"(.*:)[ab](\+\d+)", params["data"], re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return label, text


async def test_nothing_is_lost_doubled_out_of_order_or_foreign(prey: Cluster, rng: Random) -> None:
    hunt = Hunt(prey, rng, DISCONNECTS[prey.host] * HUNT)
    sessions = [Hunted(hunt, number, await prey.session()) for number in range(SESSIONS)]
    await asyncio.gather(*(session.run() for session in sessions))
    print(f"{hunt.disconnects} disconnects; {hunt.tally}")
    assert hunt.disconnects >= hunt.wanted
    assert not hunt.tally.faults, str(hunt.tally)
