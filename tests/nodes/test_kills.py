"""Nodes that end by SIGKILL in the middle of what they do, and by SIGTERM."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.frames import messages_of, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_session_outlives_every_node(cluster: Cluster) -> None:
    client = await cluster.session()
    assert await client.result("remember", key="colour", value="red") == "remembered"
    priming, *live = await (await client.call("count", progress="p", to=3)).rest()
    for node in cluster.nodes:
        await node.kill()
    await cluster.ready()
    for node in cluster.nodes:
        again = cluster.same(client, node)
        assert await again.result("recall", key="colour") == "red"
        assert messages_of(await (await again.resume(priming.id or "")).rest()) == live


@pytest.mark.parametrize("request_id", [7, "7"], ids=["number", "string"])
async def test_a_call_whose_node_died_ends_with_an_error(cluster: Cluster, request_id: str | int) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    calling = await client.call("gate_count", id=request_id, progress="p", to=3, gate=gate)
    await cluster.a.step(gate)
    first = await calling.until_message()
    await cluster.a.kill()
    resumed = await cluster.same(client, cluster.b).resume(first.id or "")
    assert resumed.status == 200
    [ended] = messages_of(await resumed.rest())
    assert (ended.message["id"], type(ended.message["id"])) == (request_id, type(request_id))
    assert isinstance(ended.message["error"]["code"], int)
    assert ended.message["error"]["message"]
    await cluster.ready()
    for node in cluster.nodes:
        again = await cluster.same(client, node).resume(first.id or "")
        assert messages_of(await again.rest()) == [ended]


async def test_a_call_whose_node_died_ends_on_the_node_that_replaces_it(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    calling = await client.call("gate_count", id="lost", progress="p", to=3, gate=gate)
    await cluster.a.step(gate)
    priming, first = await calling.take(2)
    await cluster.a.kill()
    await cluster.ready()
    again = messages_of(await (await client.resume(priming.id or "")).rest())
    assert again[0] == first
    assert [(frame.message["id"], "error" in frame.message) for frame in again[1:]] == [("lost", True)]


async def test_many_first_requests_at_once_after_a_kill(cluster: Cluster) -> None:
    client = await cluster.session()
    for node in cluster.nodes:
        await node.kill()
    await cluster.ready()
    texts = [str(number) for number in range(20)]
    assert await asyncio.gather(*(client.result("echo", text=text) for text in texts)) == texts


async def test_a_listener_of_a_dead_node_misses_nothing(cluster: Cluster) -> None:
    at_a = await cluster.session(cluster.a)
    at_b = cluster.same(at_a, cluster.b)
    listening = await at_a.open_get()
    assert await at_b.result("notify", text="one") == "b notified"
    first = await listening.until_message()
    await cluster.a.kill()
    assert await at_b.result("notify", text="two") == "b notified"
    resumed = await at_b.resume(first.id or "")
    assert resumed.status == 200
    assert told([await resumed.until_message()]) == ["two"]
    assert await at_b.result("notify", text="three") == "b notified"
    assert told([await resumed.until_message()]) == ["three"]


async def test_a_fresh_get_may_be_opened_when_the_node_of_the_last_one_died(cluster: Cluster) -> None:
    at_a = await cluster.session(cluster.a)
    at_b = cluster.same(at_a, cluster.b)
    assert (await at_a.open_get()).status == 200
    await cluster.a.kill()
    while (listening := await at_b.open_get()).status == 409:
        await listening.body()
        # Nobody announces that the lease of a dead node has run out; the test's own timeout bounds it.
        await asyncio.sleep(0.2)
    assert listening.status == 200
    assert await at_b.result("notify", text="here") == "b notified"
    assert told([await listening.until_message()]) == ["here"]


async def test_a_node_that_is_asked_to_end_leaves_its_sessions_to_the_others(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    assert await client.result("remember", key="colour", value="red") == "remembered"
    calling = await client.call("gate_count", id="cut short", progress="p", to=2, gate=gate)
    await cluster.a.step(gate)
    first = await calling.until_message()
    assert await cluster.a.terminate() == -signal.SIGTERM
    at_b = cluster.same(client, cluster.b)
    assert await at_b.result("recall", key="colour") == "red"
    [ended] = messages_of(await (await at_b.resume(first.id or "")).rest())
    assert (ended.message["id"], "error" in ended.message) == ("cut short", True)
