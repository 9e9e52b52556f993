"""The SDKs' own clients with two nodes of the same line, which take turns, and answers that break off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.conftest import PATIENT, Started
from tests.nodes.environments import LINE_OF
from tests.nodes.hosts import HOSTS
from tests.nodes.official import ANSWER, ROOT
from tests.servers import ChildProcess

pytestmark = pytest.mark.asyncio(loop_scope="session")


QUESTIONS: list[tuple[str, dict[str, Any], dict[str, str], str]] = [
    ("ask", {"question": "What?"}, {"asked": "What?"}, ANSWER),
    ("sample", {"prompt": "What?"}, {"sampled": "What?"}, ANSWER),
    ("roots", {}, {"listed": ROOT}, ROOT),
]


async def said(child: ChildProcess) -> dict[str, Any]:
    return json.loads(await child.wait_for_line("{"))


async def ask(child: ChildProcess, tool: str, **arguments: Any) -> list[dict[str, Any]]:
    """Have it call a tool, and give all that it says up to the result."""
    await child.write_line(json.dumps({"call": tool, "arguments": arguments}))
    heard = [await said(child)]
    while not heard[-1].keys() & {"result", "error"}:
        heard.append(await said(child))
    return heard


async def answer_all_questions(child: ChildProcess) -> set[str]:
    """Have it asked in each manner; gives the names of the nodes that did."""
    names: set[str] = set()
    for tool, arguments, told, answer in QUESTIONS:
        heard, last = await ask(child, tool, **arguments)
        assert heard == told
        assert last["result"].endswith(answer)
        names.add(last["result"][0])
    return names


async def test_an_official_client_notices_nothing_of_two_nodes(cluster: Cluster, started: Started) -> None:
    child = await started.official(LINE_OF[cluster.host], cluster.balancer)
    assert "connected" in await said(child)
    names = {str(node.pid) for node in cluster.nodes}
    assert {(await ask(child, "who"))[-1]["result"] for _ in range(6)} == names
    await ask(child, "remember", key="colour", value="red")
    assert [(await ask(child, "recall", key="colour"))[-1] for _ in range(2)] == [{"result": "red"}] * 2
    # An odd number of requests, so that each kind of question is asked by both nodes.
    for _ in range(2):
        await answer_all_questions(child)
        await ask(child, "who")
    await child.close_input()
    assert await said(child) == {"closed": True}


@pytest.mark.parametrize("host", HOSTS)
async def test_an_official_client_notices_nothing_of_three_nodes(
    host: str, started: Started, new_postgres: Callable[[], str]
) -> None:
    dsn = new_postgres()
    nodes = [await started.node(host, dsn=dsn, name=name, persistence=PATIENT) for name in "abc"]
    child = await started.official(LINE_OF[host], await started.balancer(*nodes))
    assert "connected" in await said(child)
    asking = [await answer_all_questions(child) for _ in range(2)]
    assert set.union(*asking) > {nodes[0].name}
    await child.close_input()
    assert await said(child) == {"closed": True}


async def test_an_official_client_resumes_what_breaks_off(cluster: Cluster, started: Started) -> None:
    child = await started.official(LINE_OF[cluster.host], cluster.balancer)
    assert "connected" in await said(child)
    # The priming event and three steps.
    cut = cluster.balancer.cut_after(events=4, matches=lambda head, body: b"count" in body)
    heard = await ask(child, "count", to=6, interval_ms=20)
    assert cut.done.is_set()
    node = heard[-1]["result"][0]
    assert heard[-1] == {"result": f"{node} counted to 6"}
    assert heard[:-1] == [{"progress": [number, 6, f"{node}+{number}"]} for number in range(1, 7)]
