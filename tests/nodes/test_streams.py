"""Streams of durable sessions on two nodes: nothing is lost, nothing comes twice, and everything ends."""

from __future__ import annotations

import pytest

from tests.nodes.client import WITHOUT_PRIMING, Client, CutOff, text_of
from tests.nodes.cluster import Cluster
from tests.nodes.frames import Frame, messages_of, told

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def everything(client: Client, first_id: str) -> list[Frame]:
    """The messages of a finished stream, from the beginning."""
    return messages_of(await (await client.resume(first_id)).rest())


async def test_a_call_goes_on_at_one_node_while_it_is_resumed_at_the_other(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    at_b = cluster.same(client, cluster.b)
    calling = await client.call("gate_count", id="seven", progress="token", to=4, gate=gate)
    await cluster.a.step(gate)
    priming, *live = await calling.take(2)
    assert (priming.data, bool(priming.id)) == (b"", True)
    calling.cut()
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [2, 3]
    resumed = await at_b.resume(live[-1].id or "")
    assert resumed.status == 200
    while len(messages_of(resumed.frames)) < 2:
        live.append(await resumed.until_message())
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [4, "end"]
    live += messages_of(await resumed.rest())
    assert told(live) == ["a+1", "a+2", "a+3", "a+4"]
    assert (live[-1].message["id"], text_of(live[-1].message)) == ("seven", "a counted to 4")
    assert len({frame.id for frame in [priming, *live]}) == 6
    for again in (client, at_b):
        assert await everything(again, priming.id or "") == live


async def test_frames_are_the_same_live_and_replayed_at_either_node(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    priming, *live = await (await client.call("count", progress=0, to=5)).rest()
    assert told(live) == [f"a+{number}" for number in range(1, 6)]
    assert all(frame.id for frame in live)
    for again in (client, cluster.same(client, cluster.b)):
        assert await everything(again, priming.id or "") == live
        for place, frame in enumerate(live):
            assert await everything(again, frame.id or "") == live[place + 1 :]


async def test_a_stream_is_cut_again_and_again(cluster: Cluster) -> None:
    client, gate = await cluster.session(), cluster.gate()
    cluster.balancer.next_to(0)
    response = await client.call("gate_count", progress="p", to=6, gate=gate)
    seen: list[Frame] = []
    last = (await anext(response)).id or ""
    for _ in range(6):
        await cluster.a.step(gate)
        cut = cluster.balancer.cut_after(events=1, matches=lambda head, body: head.method == "GET")
        response.cut()
        response = await client.resume(last)
        with pytest.raises(CutOff):
            await response.rest()
        assert cut.done.is_set()
        seen += messages_of(response.frames)
        last = response.last_id
    await cluster.a.step(gate)
    seen += messages_of(await (await client.resume(last)).rest())
    assert told(seen) == [f"a+{number}" for number in range(1, 7)]
    assert len({frame.id for frame in seen}) == 7


async def test_a_finished_stream_ends_its_get(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    priming, answer = await (await client.call("echo", text="x")).rest()
    for again in (client, cluster.same(client, cluster.b)):
        assert await everything(again, priming.id or "") == [answer]
        ended = await again.resume(answer.id or "")
        assert (ended.status, messages_of(await ended.rest())) == (200, [])


async def test_a_stream_that_its_tool_closes_is_resumed(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    before = await (await client.call("close_stream", progress="p", gate=gate)).rest()
    await cluster.a.open(gate)
    after = await (await cluster.same(client, cluster.b).resume(before[-1].id or "")).rest()
    # The SDK drops what it has not yet written when a tool closes the stream: then the first comes by the second way.
    assert told(before + after) == ["a+before", "a+after"]
    assert text_of(after[-1].message) == "a went on"


async def test_a_fresh_get_hears_what_the_other_node_emits(cluster: Cluster) -> None:
    at_a = await cluster.session(cluster.a)
    at_b = cluster.same(at_a, cluster.b)
    listening = await at_b.open_get()
    assert listening.status == 200
    assert await at_a.result("notify", text="one") == "a notified"
    first = await listening.until_message()
    assert (told([first]), bool(first.id)) == (["one"], True)
    assert await at_b.result("notify", text="two") == "b notified"
    second = await listening.until_message()
    assert told([second]) == ["two"]
    listening.cut()
    assert await at_b.result("notify", text="three") == "b notified"
    resumed = await at_a.resume(second.id or "")
    third = await resumed.until_message()
    assert told([third]) == ["three"]
    resumed.cut()
    again = await at_b.resume(first.id or "")
    assert [await again.until_message(), await again.until_message()] == [second, third]


async def test_a_session_has_one_standalone_stream_on_all_nodes(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    listening = await client.open_get()
    assert listening.status == 200
    for node in cluster.nodes:
        assert (await cluster.same(client, node).open_get()).status == 409
    assert await client.result("notify", text="still") == "a notified"
    assert told([await listening.until_message()]) == ["still"]


async def test_sessions_with_the_same_request_ids_do_not_see_each_other(cluster: Cluster) -> None:
    clients = [await cluster.session(node) for node in cluster.nodes]
    gates = [cluster.gate(), cluster.gate()]
    calls = [
        await client.call("gate_count", id="same", progress="same", to=2, gate=gate)
        for client, gate in zip(clients, gates, strict=True)
    ]
    first = [await call.take(1) for call in calls]
    for call in calls:
        call.cut()
    for _ in range(3):
        for node, gate in zip(cluster.nodes, gates, strict=True):
            await node.step(gate)
    for client, [priming], own in zip(clients, first, "ab", strict=True):
        for node in cluster.nodes:
            frames = await everything(cluster.same(client, node), priming.id or "")
            assert told(frames) == [f"{own}+1", f"{own}+2"]
            assert (frames[-1].message["id"], text_of(frames[-1].message)) == ("same", f"{own} counted to 2")


@pytest.mark.parametrize("request_ids", [(7, "7"), (7, 7)], ids=["of another type", "used again"])
async def test_each_request_has_a_stream_of_its_own(cluster: Cluster, request_ids: tuple[str | int, ...]) -> None:
    """The SDK gives the stream of 7 and that of "7" one name; a client that was restarted uses its ids again."""
    client = await cluster.session(cluster.a)
    answered: list[list[Frame]] = []
    for place, request_id in enumerate(request_ids):
        answered.append(await (await client.call("echo", id=request_id, text=str(place))).rest())
    for node in cluster.nodes:
        for place, (request_id, [priming, answer]) in enumerate(zip(request_ids, answered, strict=True)):
            [replayed] = await everything(cluster.same(client, node), priming.id or "")
            assert replayed == answer
            assert (replayed.message["id"], text_of(replayed.message)) == (request_id, str(place))


async def test_an_older_client_gets_no_priming_event_and_resumes_all_the_same(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a, protocol=WITHOUT_PRIMING), cluster.gate()
    assert client.protocol == WITHOUT_PRIMING
    calling = await client.call("gate_count", progress="p", to=2, gate=gate)
    await cluster.a.step(gate)
    first = await anext(calling)
    assert (told([first]), bool(first.id)) == (["a+1"], True)
    calling.cut()
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [2, "end"]
    at_b = cluster.same(client, cluster.b)
    rest = await (await at_b.resume(first.id or "")).rest()
    assert (told(rest), text_of(rest[-1].message)) == (["a+2"], "a counted to 2")
    listening = await at_b.open_get()
    assert await client.result("notify", text="news") == "a notified"
    assert told([await anext(listening)]) == ["news"]


async def test_a_message_that_cannot_be_encoded_fails_alone(cluster: Cluster) -> None:
    client, gate = await cluster.session(cluster.a), cluster.gate()
    other = await client.call("gate_count", progress="p", to=2, gate=gate)
    await cluster.a.step(gate)
    failing = await client.call("bad", id="bad")
    priming, *failed = await failing.rest()
    assert [(frame.message["id"], "error" in frame.message) for frame in failed] == [("bad", True)]
    for node in cluster.nodes:
        assert await everything(cluster.same(client, node), priming.id or "") == failed
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [2, "end"]
    frames = await other.rest()
    assert (told(frames), text_of(frames[-1].message)) == (["a+1", "a+2"], "a counted to 2")
    assert await cluster.same(client, cluster.b).result("echo", text="fine") == "fine"
