"""Replicas of the stateless era, each a process, and the official client: what one begins, another goes on with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from cryptography.fernet import Fernet
from mcp import Client, MCPError
from mcp.server.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
)
from mcp.types import ElicitResult

from tests.databases import Database
from tests.nodes.balancer import Balancer
from tests.nodes.wire import PATIENCE
from tests.servers import ChildProcess
from tests.servers.spawning import free_port

URI = "memo://one"

Address = tuple[str, int]
Start = Callable[[str], Awaitable[list[Address]]]


@pytest_asyncio.fixture
async def start(distinct_database: Database) -> AsyncIterator[Start]:
    """Starts two replicas, and gives where they are."""
    async with AsyncExitStack() as stack:

        async def start(secret: str) -> list[Address]:
            ports = [free_port(), free_port()]
            for port in ports:
                words = ("-m", "tests.nodes.replica", distinct_database.dsn, str(port), secret)
                child = await stack.enter_async_context(ChildProcess(*words, timeout=PATIENCE))
                await child.wait_for_line("{")
            return [("127.0.0.1", port) for port in ports]

        yield start


async def answer(context: object, params: object) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "Ada"})


def client(address: Address) -> Client:
    return Client(f"http://{address[0]}:{address[1]}/mcp", elicitation_callback=answer)


async def text(caller: Client, tool: str, **arguments: str) -> str:
    result = await caller.call_tool(tool, arguments)
    return result.content[0].text  # type: ignore[union-attr]


async def test_what_one_replica_publishes_is_delivered_by_the_other(start: Start) -> None:
    addresses = await start("")
    async with client(addresses[0]) as first, client(addresses[1]) as second:
        for here, there in ((first, second), (second, first)):
            listening = here.listen(
                tools_list_changed=True,
                prompts_list_changed=True,
                resources_list_changed=True,
                resource_subscriptions=[URI],
            )
            async with listening as events:
                heard: set[ServerEvent] = set()
                # At once after the acknowledgement: nothing may be lost while the replica begins to listen.
                await text(there, "publish", uri="memo://other")
                await text(there, "publish", uri="")
                await text(there, "publish", uri=URI)
                while ResourceUpdated(URI) not in heard:
                    heard.add(await asyncio.wait_for(anext(events), PATIENCE))
                assert heard == {
                    ToolsListChanged(),
                    PromptsListChanged(),
                    ResourcesListChanged(),
                    ResourceUpdated(URI),
                }


async def test_a_call_in_two_requests_is_ended_by_the_other_replica(start: Start) -> None:
    addresses = await start(Fernet.generate_key().decode())
    async with Balancer(addresses) as balancer, client(balancer.address) as caller:
        said = [(await text(caller, "greet")).split() for _ in range(4)]
    # Requests take turns, so the two of a call are at two replicas.
    assert all(asked != ended for asked, ended in said)


async def test_without_shared_keys_it_is_refused(start: Start) -> None:
    addresses = await start("")
    async with Balancer(addresses) as balancer, client(balancer.address) as caller:
        with pytest.raises(MCPError, match="requestState"):
            await text(caller, "greet")
