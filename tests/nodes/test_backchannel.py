"""What a client says to one node and another node waits for: answers, progress and cancellations."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest

from mcp_persist_sa import open_store
from mcp_persist_sa.identity import inbox_of
from tests.hunts.support import eventually
from tests.nodes.client import CURRENT, WITHOUT_PRIMING, text_of
from tests.nodes.cluster import Cluster
from tests.nodes.conftest import MakeCluster
from tests.nodes.frames import Response, messages_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAMPLED = {"role": "assistant", "content": {"type": "text", "text": "something"}, "model": "m"}
TOLD = {"action": "accept", "content": {"answer": "red"}}
ROOTS = {"roots": [{"uri": "file:///home"}]}
QUESTIONS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("ask", {"question": "What?"}, TOLD, "was told red"),
    ("sample", {"prompt": "What?"}, SAMPLED, "heard something"),
    ("roots", {}, ROOTS, "knows file:///home"),
]


async def question(response: Response) -> dict[str, Any]:
    """What a tool asks on the stream of its call."""
    return (await response.until_message()).message


async def result(response: Response) -> str:
    return text_of((await response.rest())[-1].message)


@pytest.mark.parametrize(("tool", "arguments", "answer", "said"), QUESTIONS, ids=[each[0] for each in QUESTIONS])
async def test_an_answer_reaches_the_node_that_asks(
    cluster: Cluster, tool: str, arguments: dict[str, Any], answer: dict[str, Any], said: str
) -> None:
    client = await cluster.session(cluster.a)
    for asking, other in ((cluster.a, cluster.b), (cluster.b, cluster.a), (cluster.a, cluster.a)):
        calling = await cluster.same(client, asking).call(tool, **arguments)
        response = await cluster.same(client, other).respond(await question(calling), answer)
        assert (response.status, response.head.get("mcp-session-id")) == (202, client.session_id)
        assert await result(calling) == f"{asking.name} {said}"


async def test_a_refusal_reaches_the_node_that_asks(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    for tool, arguments, _, _ in QUESTIONS:
        calling = await client.call(tool, **arguments)
        assert (await at_b.refuse(await question(calling), "I will not")).status == 202
        answer = (await calling.rest())[-1].message
        assert "I will not" in str(answer)
        assert "error" in answer or answer["result"]["isError"]


async def test_what_is_asked_beside_any_request_is_answered_at_any_node(cluster: Cluster) -> None:
    at_a = await cluster.session(cluster.a)
    at_b = cluster.same(at_a, cluster.b)
    listening = await at_b.open_get()
    asking = {node: await at.call("roots", standalone=True) for node, at in ((cluster.a, at_a), (cluster.b, at_b))}
    asked = [await question(listening) for _ in asking]
    for request, at in zip(asked, (at_a, at_b), strict=True):
        assert request["method"] == "roots/list"
        assert (await at.respond(request, ROOTS)).status == 202
    for node, calling in asking.items():
        assert await result(calling) == f"{node.name} knows file:///home"


async def test_progress_reaches_the_node_that_asks_and_comes_before_the_answer(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    calling = await client.call("roots")
    request = await question(calling)
    token = request["params"]["_meta"]["progressToken"]
    told = [f"{number} of 3" for number in (1, 2, 3)]
    for number, message in enumerate(told, 1):
        params = {"progressToken": token, "progress": number, "message": message}
        assert (await at_b.notify("notifications/progress", params)).status == 202
    assert (await at_b.respond(request, ROOTS)).status == 202
    assert await result(calling) == "a knows file:///home"
    for message in told:
        await cluster.a.said("progress", message)


@pytest.mark.parametrize("protocol", [CURRENT, WITHOUT_PRIMING])
@pytest.mark.parametrize("request_id", [7, "7", "a name"], ids=repr)
async def test_a_cancellation_reaches_the_node_that_runs_the_call(
    cluster: Cluster, request_id: str | int, protocol: str
) -> None:
    client, gate = await cluster.session(cluster.a, protocol=protocol), cluster.gate()
    calling = await client.call("gate_count", id=request_id, to=1, gate=gate)
    if protocol == CURRENT:
        await anext(calling)
    assert (await cluster.same(client, cluster.b).cancel(request_id)).status == 202
    await cluster.a.said("cancelled", gate)
    answer = (await calling.rest())[-1].message
    assert (answer["id"], "error" in answer) == (request_id, True)


async def test_a_cancellation_ends_one_call_of_one_session(cluster: Cluster) -> None:
    first, second = await cluster.session(cluster.a), await cluster.session(cluster.a)
    gates = [cluster.gate() for _ in range(3)]
    cancelled = await first.call("gate_count", id="one", to=1, gate=gates[0])
    others = [
        await first.call("gate_count", id="two", to=1, gate=gates[1]),
        await second.call("gate_count", id="one", to=1, gate=gates[2]),
    ]
    assert (await cluster.same(first, cluster.b).cancel("one")).status == 202
    await cluster.a.said("cancelled", gates[0])
    assert "error" in (await cancelled.rest())[-1].message
    for gate, calling in zip(gates[1:], others, strict=True):
        assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [1, "end"]
        assert await result(calling) == "a counted to 1"


async def test_a_cancelled_call_takes_back_what_it_has_asked(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    calling = await client.call("ask", id="asking", question="Shall I?")
    asked = await question(calling)
    assert (await at_b.cancel("asking")).status == 202
    await cluster.a.said("asked", "Shall I?")
    *taken_back, answer = [frame.message for frame in messages_of(await calling.rest())]
    # The line 1.x leaves it to the client to know.
    assert [message["params"]["requestId"] for message in taken_back] == [asked["id"]] * (cluster.host != "fastmcp1")
    assert (answer["id"], "error" in answer) == ("asking", True)
    assert (await at_b.respond(asked, TOLD)).status == 202
    assert await client.result("echo", text="goes on") == "goes on"


async def test_what_is_asked_has_an_id_of_its_own_at_each_node(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at = [cluster.same(client, node) for node in cluster.nodes] * 2
    asking = [await each.call("ask", question=f"{number}?") for number, each in enumerate(at)]
    asked = [await question(each) for each in asking]
    assert len({request["id"] for request in asked}) == len(at)
    for number in (2, 1, 3, 0):
        answer = {"action": "accept", "content": {"answer": f"{number}!"}}
        assert (await at[number - 1].respond(asked[number], answer)).status == 202
    names = [node.name for node in cluster.nodes] * 2
    assert [await result(each) for each in asking] == [f"{n} was told {i}!" for i, n in enumerate(names)]


async def test_what_is_asked_is_replayed_byte_for_byte(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    for tool, arguments, answer, _ in QUESTIONS:
        calling = await client.call(tool, **arguments)
        priming = await anext(calling)
        request = await question(calling)
        assert (await at_b.respond(request, answer)).status == 202
        await calling.rest()
        live = messages_of(calling.frames)
        assert [bool(frame.id) for frame in live] == [True, True]
        for node in cluster.nodes:
            again = await cluster.same(client, node).resume(priming.id or "")
            assert [frame.raw for frame in messages_of(await again.rest())] == [frame.raw for frame in live]


async def test_a_question_that_is_replayed_at_another_node_is_answered_there(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    calling = await client.call("ask", question="What?")
    priming = await anext(calling)
    calling.cut()
    resumed = await at_b.resume(priming.id or "")
    assert (await at_b.respond(await question(resumed), TOLD)).status == 202
    assert await result(resumed) == "a was told red"


async def test_an_answer_that_is_sent_again_is_heard_once(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    listening = await client.open_get()
    for first, again in ((at_b, at_b), (at_b, client), (client, at_b), (client, client)):
        calling = await client.call("ask", question="What?")
        asked = await question(calling)
        assert [(await each.respond(asked, TOLD)).status for each in (first, again)] == [202, 202]
        assert await result(calling) == "a was told red"
    # The line 1.x tells a client of an answer for which nobody waits.
    assert await client.result("notify", text="nothing else") == "a notified"
    assert (await listening.until_message()).message["params"]["data"] == "nothing else"


async def test_what_the_host_refuses_reaches_nobody(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    calling = await client.call("ask", question="What?")
    asked = await question(calling)
    lie: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}}
    for node in (cluster.b, cluster.a):
        at = cluster.same(client, node)
        refused = [
            await at.post(lie, host="evil.example"),
            await at.post(lie, origin="http://evil.example"),
            await at.post(lie, content_type="text/plain"),
            await at.post(lie, accept="text/plain"),
            await at.post({**lie, "result": 5}),
            await at.post({**lie, "jsonrpc": "1.0"}),
        ]
        assert [response.status for response in refused] == [421, 403, 400, 406, 400, 400]
    assert (await cluster.same(client, cluster.b).respond(asked, TOLD)).status == 202
    assert await result(calling) == "a was told red"


async def test_an_answer_to_nothing_is_taken_and_dropped(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    other = await cluster.session(cluster.a)
    calling = await client.call("ask", question="What?")
    asked = await question(calling)
    node, copy, own = asked["id"].split(".", 2)
    forged = [f"{node}.{copy}0.{own}", f"{'A' * 16}.{copy}.{own}", f"{node}.{copy}.{own}1", f"{node}.{copy}.{'[' * 9}"]
    for each in (cluster.a, cluster.b):
        # The session of somebody else, and requests that were never made.
        assert (await cluster.same(other, each).respond(asked, TOLD)).status == 202
        for request_id in forged:
            assert (await cluster.same(client, each).respond({"id": request_id}, TOLD)).status == 202
    decline = {"action": "accept", "content": {"answer": "blue"}}
    assert (await cluster.same(client, cluster.b).respond(asked, decline)).status == 202
    assert await result(calling) == "a was told blue"


async def test_a_large_answer_reaches_the_node_that_asks(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    # Just below what hosts take, as long as it does not grow on its way.
    text = "\u00e9\u2028\U0001f600" * 450_000
    for node in (cluster.b, cluster.a):
        calling = await client.call("ask", question="What?")
        told = {"action": "accept", "content": {"answer": text}}
        answer = {"jsonrpc": "2.0", "id": (await question(calling))["id"], "result": told}
        body = json.dumps(answer, ensure_ascii=False).encode()
        assert (await cluster.same(client, node).post(body)).status == 202
        assert await result(calling) == f"a was told {text}"


async def test_an_answer_for_a_node_that_died_is_taken_and_its_call_ends(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    calling = await client.call("ask", id="lost", question="What?")
    priming = await anext(calling)
    asked = await question(calling)
    await cluster.a.kill()
    assert (await at_b.respond(asked, TOLD)).status == 202
    first, ended = messages_of(await (await at_b.resume(priming.id or "")).rest())
    assert first.message == asked
    assert (ended.message["id"], "error" in ended.message) == ("lost", True)
    await cluster.ready()
    for node, other in ((cluster.a, cluster.b), (cluster.b, cluster.a)):
        at = cluster.same(client, node)
        assert (await at.respond(asked, TOLD)).status == 202
        again = await at.call("ask", question="What?")
        assert (await cluster.same(client, other).respond(await question(again), TOLD)).status == 202
        assert await result(again) == f"{node.name} was told red"


async def test_a_node_that_was_frozen_past_its_lease_hears_an_answer_once(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    listening, frozen = await at_b.open_get(), cluster.gate()
    calling = await client.call("ask", id="frozen", question=frozen)
    priming = await anext(calling)
    asked = await question(calling)
    calling.cut()
    cluster.a.child.send_signal(signal.SIGSTOP)
    try:
        ended = messages_of(await (await at_b.resume(priming.id or "")).rest())
        assert [(await at_b.respond(asked, TOLD)).status for _ in range(2)] == [202, 202]
    finally:
        cluster.a.child.send_signal(signal.SIGCONT)
    await cluster.a.said("asked", frozen)
    again = await client.call("ask", question="What?")
    assert (await at_b.respond(await question(again), TOLD)).status == 202
    assert await result(again) == "a was told red"
    assert [frame.message.get("id") for frame in ended] == [asked["id"], "frozen"]
    for node in cluster.nodes:
        assert messages_of(await (await cluster.same(client, node).resume(priming.id or "")).rest()) == ended
    # The line 1.x tells a client of an answer for which nobody waits.
    assert await client.result("notify", text="nothing else") == "a notified"
    assert (await listening.until_message()).message["params"]["data"] == "nothing else"


async def test_an_answer_to_a_node_that_was_frozen_is_kept_for_it(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    calling = await client.call("ask", question="What?")
    asked = await question(calling)
    async with open_store(cluster.dsn, background=False) as store:
        node_id = asked["id"].split(".")[0]

        async def is_taken_for_dead() -> bool:
            return not (await store.nodes())[node_id]

        cluster.a.child.send_signal(signal.SIGSTOP)
        try:
            await eventually("the lease has run out", is_taken_for_dead)
            assert (await at_b.respond(asked, TOLD)).status == 202
        finally:
            cluster.a.child.send_signal(signal.SIGCONT)
    assert await result(calling) == "a was told red"


async def test_nodes_keep_nothing_that_they_have_read(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    asked: list[dict[str, Any]] = []
    for _ in range(5):
        calling = await client.call("ask", question="What?")
        asked.append(await question(calling))
        assert (await at_b.respond(asked[-1], TOLD)).status == 202
        assert await result(calling) == "a was told red"
    inbox = inbox_of(asked[0]["id"].split(".")[0])
    async with open_store(cluster.dsn, background=False) as store:

        async def holds_one_at_most() -> bool:
            return len((await store.read(inbox, stream_id="inbox")).events) <= 1

        await eventually("what was delivered is removed", holds_one_at_most)
        # It is no session for whoever knows its name.
        for node in cluster.nodes:
            curious = cluster.same(client, node)
            curious.session_id = inbox
            assert [(await curious.open_get()).status, (await curious.call("who")).status] == [404, 404]
        await cluster.a.terminate()
        assert [info async for info in store.streams(inbox)] == []
        assert asked[0]["id"].split(".")[0] not in await store.nodes()


async def test_json_mode(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(settings={"json_response": True})
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    listening, gate = await at_b.open_get(), cluster.gate()
    asking = asyncio.ensure_future(client.call("roots", standalone=True))
    assert (await at_b.respond(await question(listening), ROOTS)).status == 202
    assert text_of(await (await asking).json()) == "a knows file:///home"
    calling = asyncio.ensure_future(client.call("gate_count", id="json", progress="p", to=2, gate=gate))
    await cluster.a.step(gate)
    assert (await at_b.cancel("json")).status == 202
    await cluster.a.said("cancelled", gate)
    answer = await (await calling).json()
    assert (answer["id"], "error" in answer) == ("json", True)
