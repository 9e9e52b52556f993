"""The harness does what the tests of sessions rely on, seen with the bare SDKs, which keep nothing."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from tests.nodes.client import WITHOUT_PRIMING, CutOff, text_of
from tests.nodes.conftest import Interpreter, Started
from tests.nodes.environments import LINE_OF, MODULES
from tests.nodes.forked import Parent
from tests.nodes.hosts import HOSTS
from tests.nodes.node import Node
from tests.nodes.official import ANSWER
from tests.nodes.tools import RESOURCE
from tests.servers import ServerError
from tests.servers.spawning import is_alive, poll, send

pytestmark = pytest.mark.asyncio(loop_scope="session")
hosts = pytest.mark.parametrize("host", HOSTS)


@hosts
async def test_a_call_reports_progress_when_the_test_says_so(started: Started, host: str) -> None:
    node = await started.node(host, name="a")
    client = await started.client(node)
    assert (await client.initialize())["protocolVersion"] == "2025-11-25"
    response = await client.call("gate_count", id="seven", progress="token", to=2, gate="mine")
    assert await node.step("mine") == 1
    first = await anext(response)
    assert first.message["params"] == {"progressToken": "token", "progress": 1, "total": 2, "message": "a+1"}
    assert first.id is None
    assert first.data in first.raw
    assert await node.step("mine") == 2
    assert await node.step("mine") == "end"
    second, answer = await response.rest()
    assert second.message["params"]["message"] == "a+2"
    assert (answer.is_response, answer.message["id"], text_of(answer.message)) == (True, "seven", "a counted to 2")


@hosts
async def test_the_other_tools_answer(started: Started, host: str) -> None:
    node = await started.node(host, name="a")
    client = await started.client(node)
    await client.initialize(WITHOUT_PRIMING)
    assert await client.result("echo", text="hello") == "hello"
    assert await client.result("who") == str(node.pid)
    counted = await (await client.call("count", progress=0, to=3)).rest()
    assert [frame.message["params"]["progressToken"] for frame in counted[:-1]] == [0, 0, 0]
    closing = await (await client.call("close_stream", progress="p")).rest()
    assert text_of(closing[-1].message) == "a went on"
    assert (await client.result("touch")) == "a knows of no subscription"


@hosts
async def test_the_standalone_stream_hears_what_is_not_related_to_a_request(started: Started, host: str) -> None:
    client = await started.client(await started.node(host, name="a"))
    await client.initialize()
    listening = await client.open_get()
    assert listening.status == 200
    assert await client.result("notify", text="news") == "a notified"
    assert await client.result("notify_every", times=2) == "a notified"
    heard = [frame.message["params"]["data"] for frame in await listening.take(3)]
    assert heard == ["news", "a+1", "a+2"]
    assert "result" in await client.answer_of(await client.request("resources/subscribe", {"uri": RESOURCE}))
    assert await client.result("touch") == "a updated"
    assert (await anext(listening)).message["params"] == {"uri": RESOURCE}
    assert (await client.delete()).status == 200
    assert await listening.rest() == []


@hosts
async def test_a_tool_asks_the_client(started: Started, host: str) -> None:
    client = await started.client(await started.node(host, name="a"))
    await client.initialize()
    asking = await client.call("ask", question="Which colour?")
    question = (await asking.until_message()).message
    assert (question["method"], question["params"]["message"]) == ("elicitation/create", "Which colour?")
    assert (await client.respond(question, {"action": "accept", "content": {"answer": "red"}})).status == 202
    assert text_of((await asking.rest())[-1].message) == "a was told red"
    sampling = await client.call("sample", prompt="Say something")
    prompt = (await sampling.until_message()).message
    result = {"role": "assistant", "content": {"type": "text", "text": "something"}, "model": "m"}
    assert (await client.respond(prompt, result)).status == 202
    assert text_of((await sampling.rest())[-1].message) == "a heard something"


@hosts
async def test_the_official_clients(started: Started, host: str) -> None:
    child = await started.official(LINE_OF[host], await started.node(host, name="a", auth=True), "alice")

    async def said() -> dict[str, object]:
        return json.loads(await child.wait_for_line("{"))

    assert await said() == {"connected": "2025-11-25"}
    await child.write_line(json.dumps({"call": "count", "arguments": {"to": 2}}))
    arrived = [await said() for _ in range(3)]
    assert sorted(arrived, key=str) == [
        {"progress": [1, 2, "a+1"]},
        {"progress": [2, 2, "a+2"]},
        {"result": "a counted to 2"},
    ]
    for tool, argument, told, result in (
        ("ask", "question", "asked", f"a was told {ANSWER}"),
        ("sample", "prompt", "sampled", f"a heard {ANSWER}"),
    ):
        await child.write_line(json.dumps({"call": tool, "arguments": {argument: "What?"}}))
        assert [await said(), await said()] == [{told: "What?"}, {"result": result}]
    await child.close_input()
    assert await said() == {"closed": True}
    assert await child.wait() == 0


@hosts
async def test_nodes_end_with_the_process_that_forks_them(interpreter: Interpreter, host: str) -> None:
    line = LINE_OF[host]
    parent = Parent(interpreter(line), MODULES[line])
    try:
        async with Node(parent.node, host=host) as a, Node(parent.node, host=host) as b:
            await a.kill()
            assert is_alive(b.pid)
            send(parent.pid, signal.SIGKILL)
            poll(lambda: not is_alive(b.pid), "the other node has ended")
            with pytest.raises(ServerError, match="parent of nodes is gone"):
                await b.start()
    finally:
        parent.close()


@hosts
async def test_a_token_tells_who_asks(started: Started, host: str) -> None:
    node = await started.node(host, auth=True, mount="/deep", path="/elsewhere")
    stranger = await started.client(node, "/deep/elsewhere")
    assert (await stranger.request("initialize")).status == 401
    alice = await started.client(node, "/deep/elsewhere", "alice")
    await alice.initialize()
    assert await alice.result("echo", text="x") == "x"
    for token in ("bob", "carol"):
        other = alice.at(node.address, token)
        assert [(await other.call("who")).status, (await other.open_get()).status] == [404, 404]


@hosts
async def test_a_balancer_spreads_requests_and_cuts_answers(started: Started, host: str) -> None:
    nodes = [await started.node(host, name=name, settings={"stateless_http": True}) for name in "ab"]
    balancer = await started.balancer(*nodes)
    client = await started.client(balancer)
    assert [await client.result("who") for _ in range(4)] == [str(nodes[turn].pid) for turn in (0, 1, 0, 1)]
    balancer.next_to(1, 1)
    assert {await client.result("who"), await client.result("who")} == {str(nodes[1].pid)}
    balancer.to(0)
    assert await client.result("who") == str(nodes[0].pid)
    cut = balancer.cut_after(events=2, matches=lambda head, body: b"count" in body)
    broken = await client.call("count", progress="p", to=3)
    assert [frame.message["params"]["message"] for frame in await broken.take(2)] == ["a+1", "a+2"]
    with pytest.raises(CutOff):
        await anext(broken)
    await asyncio.wait_for(cut.done.wait(), 10)
    balancer.cut_after(octets=10)
    with pytest.raises(CutOff):
        await (await client.call("echo", text="x")).rest()
    waiting = await client.call("gate_count", progress="p", to=1)
    balancer.cut()
    with pytest.raises(CutOff):
        await anext(waiting)
    await balancer.wait_until(lambda balancer: balancer.connections == 0)
    await nodes[0].kill()
    assert (await client.call("who")).status == 502
    balancer.round_robin()
    assert await client.result("who") == str(nodes[1].pid)
    await nodes[0].start()
    balancer.round_robin()
    assert await client.result("who") == str(nodes[0].pid)
    assert await nodes[1].terminate() == -signal.SIGTERM
