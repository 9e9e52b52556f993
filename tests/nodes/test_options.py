"""Apps with other options than the usual ones."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mcp_persist_sa import open_store
from tests.hunts.support import eventually
from tests.nodes.conftest import MakeCluster
from tests.nodes.frames import messages_of, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_json_mode(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(settings={"json_response": True})
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    response = await client.call("count", id="json", progress="p", to=3)
    assert (response.status, response.head.is_stream) == (200, False)
    assert (await response.json())["id"] == "json"
    assert await client.result("remember", key="colour", value="red") == "remembered"
    assert await at_b.result("recall", key="colour") == "red"
    listening = await at_b.open_get()
    assert await client.result("notify", text="news") == "a notified"
    assert told([await listening.until_message()]) == ["news"]
    await cluster.a.kill()
    await cluster.ready()
    assert await client.result("recall", key="colour") == "red"
    assert (await at_b.delete()).status == 200
    assert (await client.call("who")).status == 404


@pytest.mark.parametrize(
    "place", [{"mount": "/deep"}, {"path": "/elsewhere"}, {"mount": "/deep", "path": "/elsewhere"}], ids=str
)
async def test_other_places(make_cluster: MakeCluster, place: dict[str, str]) -> None:
    cluster = await make_cluster(**place)
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    priming, *live = await (await client.call("count", progress="p", to=2)).rest()
    assert messages_of(await (await at_b.resume(priming.id or "")).rest()) == live
    assert await at_b.result("who") == str(cluster.b.pid)
    assert (await at_b.delete()).status == 200
    assert (await client.call("who")).status == 404


async def test_the_retry_interval_is_told_on_every_node(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(settings={"retry_interval": 1234})
    client = await cluster.session(cluster.a)
    priming, answer = await (await client.call("echo", text="x")).rest()
    assert (priming.retry, answer.retry) == (1234, None)
    for node in cluster.nodes:
        listening = await cluster.same(client, node).open_get()
        first = await anext(listening)
        assert (first.retry, first.is_priming, bool(first.id)) == (1234, True, True)
        assert (await client.delete()).status == 200
        await listening.rest()
        await client.initialize()


async def test_a_session_that_a_node_has_forgotten_for_idleness_goes_on(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(settings={"session_idle_timeout": 0.05})
    client = await cluster.session(cluster.a)
    assert await client.result("remember", key="colour", value="red") == "remembered"
    gate = cluster.gate()
    calling = await client.call("gate_count", progress="p", to=1, gate=gate)
    priming = await anext(calling)
    calling.cut()
    # Longer than the idle timeout, by work that the node does and not by the clock.
    for node in cluster.nodes:
        await cluster.same(client, node).result("count", to=5, interval_ms=50)
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [1, "end"]
    assert told(await (await client.resume(priming.id or "")).rest()) == ["a+1"]
    for node in cluster.nodes:
        assert await cluster.same(client, node).result("recall", key="colour") == "red"


async def test_an_open_stream_keeps_its_session_alive(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(query="session_ttl=4")
    async with open_store(cluster.dsn) as store:
        client = await cluster.session(cluster.a)
        listening = await client.open_get()
        opened = await store.sessions.get(client.session_id or "")

        async def is_used_since() -> bool:
            session = await store.sessions.get(opened.session_id)
            return session.last_seen_at >= opened.created_at + timedelta(seconds=8)

        async def is_gone() -> bool:
            return await store.sessions.count() == 0

        await eventually("the session would have ended twice over", is_used_since)
        assert await client.result("notify", text="still here") == "a notified"
        assert told([await listening.until_message()]) == ["still here"]
        listening.cut()
        await eventually("the session has expired", is_gone)
        assert (await client.call("who")).status == 404
