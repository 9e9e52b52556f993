"""Durable sessions on two nodes: each node serves every session, and ends it for all."""

from __future__ import annotations

import pytest

from tests.nodes.client import Client
from tests.nodes.cluster import Cluster
from tests.nodes.frames import told
from tests.nodes.tools import RESOURCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def statuses(client: Client, event_id: str) -> list[int]:
    """How each kind of request is answered."""
    answers = [
        await client.call("echo", text="x"),
        await client.notify("notifications/initialized"),
        await client.open_get(),
        await client.resume(event_id),
        await client.delete(),
    ]
    return [answer.status for answer in answers]


async def test_the_handshake_and_the_calls_are_spread_over_the_nodes(cluster: Cluster) -> None:
    at_a = cluster.client(cluster.a)
    await at_a.initialize(announce=False)
    at_b = cluster.same(at_a, cluster.b)
    assert (await at_b.initialized()).status == 202
    assert await at_a.result("who") == str(cluster.a.pid)
    assert await at_b.result("who") == str(cluster.b.pid)
    for response in (await at_a.call("who"), await at_b.call("who")):
        assert response.head.get("mcp-session-id") == at_a.session_id
    listed = await at_b.answer_of(await at_b.request("tools/list"))
    assert "gate_count" in [tool["name"] for tool in listed["result"]["tools"]]


async def test_any_node_serves_each_request_of_a_session(cluster: Cluster) -> None:
    client = await cluster.session()
    pids = [await client.result("who") for _ in range(6)]
    assert sorted(pids) == sorted([str(node.pid) for node in cluster.nodes] * 3)


async def test_state_is_the_sessions_own_on_every_node(cluster: Cluster) -> None:
    first, second = await cluster.session(cluster.a), await cluster.session(cluster.b)
    assert await first.result("remember", key="colour", value="red") == "remembered"
    assert await second.result("remember", key="colour", value="blue") == "remembered"
    for node in cluster.nodes:
        assert await cluster.same(first, node).result("recall", key="colour") == "red"
        assert await cluster.same(second, node).result("recall", key="colour") == "blue"


@pytest.mark.parametrize("ending", [0, 1], ids=["where it was opened", "where it was adopted"])
async def test_a_deleted_session_is_gone_at_once_on_both_nodes(cluster: Cluster, ending: int) -> None:
    client = await cluster.session(cluster.a)
    at = [cluster.same(client, node) for node in cluster.nodes]
    answer = (await (await client.call("echo", text="x")).rest())[-1]
    assert await at[1].result("echo", text="x") == "x"
    listening, gate = await at[1 - ending].open_get(), cluster.gate()
    calling = await at[1 - ending].call("gate_count", progress="p", to=1, gate=gate)
    assert (await at[ending].delete()).status == 200
    for each in at:
        assert await statuses(each, answer.id or "") == [404] * 5
    await listening.rest()
    assert told(await calling.rest()) == []
    await cluster.nodes[1 - ending].said("cancelled", gate)
    other = await cluster.session()
    assert await other.result("echo", text="others go on") == "others go on"


async def test_a_cancellation_reaches_the_call_within_its_node(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    calling = await client.call("gate_count", id="long", progress="p", to=2, gate=gate)
    await cluster.a.step(gate)
    assert (await client.notify("notifications/cancelled", {"requestId": "long"})).status == 202
    await cluster.a.said("cancelled", gate)
    answer = (await calling.rest())[-1].message
    assert (answer["id"], "error" in answer) == ("long", True)


async def test_a_subscription_is_known_to_the_other_node(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    assert "result" in await client.answer_of(await client.request("resources/subscribe", {"uri": RESOURCE}))
    listening = await client.open_get()
    assert await at_b.result("touch") == "b updated"
    assert (await listening.until_message()).message["params"] == {"uri": RESOURCE}
    stranger = await cluster.session(cluster.b)
    assert await stranger.result("touch") == "b knows of no subscription"
