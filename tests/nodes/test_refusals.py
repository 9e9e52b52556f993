"""What is refused, and that every refusal is the same whatever its reason may tell an attacker."""

from __future__ import annotations

import pytest

from tests.nodes.client import Client
from tests.nodes.cluster import Cluster
from tests.nodes.conftest import MakeCluster
from tests.nodes.frames import Answer, answer

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORGED = "0123456789abcdef0123456789abcdef"


async def answers(client: Client, event_id: str) -> list[Answer]:
    """How each kind of request is answered."""
    return [
        await answer(await client.call("echo", id="same", text="x")),
        await answer(await client.notify("notifications/initialized")),
        await answer(await client.open_get()),
        await answer(await client.resume(event_id)),
        await answer(await client.delete()),
    ]


def altered(text: str) -> str:
    """The same but for its last character."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


async def some_event(client: Client) -> str:
    return (await (await client.call("echo", text="x")).rest())[-1].id or ""


async def test_an_unknown_a_forged_and_a_closed_session_are_answered_alike(cluster: Cluster) -> None:
    client, closed = await cluster.session(cluster.a), await cluster.session(cluster.a)
    event_id = await some_event(client)
    assert (await closed.delete()).status == 200
    assert client.session_id is not None
    for node in cluster.nodes:
        unknown = cluster.same(client, node)
        unknown.session_id = FORGED
        refused = await answers(unknown, event_id)
        assert [each.status for each in refused] == [404] * 5
        for session_id in (altered(client.session_id), closed.session_id, "x" * 300, "a b", "%00"):
            other = cluster.same(client, node)
            other.session_id = session_id
            assert await answers(other, event_id) == refused, session_id
        assert await cluster.same(client, node).result("echo", text="still there") == "still there"


async def test_an_unknown_and_a_foreign_event_id_are_refused_alike(cluster: Cluster) -> None:
    client, other = await cluster.session(cluster.a), await cluster.session(cluster.a)
    own, foreign = await some_event(client), await some_event(other)
    for node in cluster.nodes:
        at = cluster.same(client, node)
        given = [await answer(await at.resume(event_id)) for event_id in (foreign, altered(foreign), FORGED)]
        given += [await answer(await at.resume(event_id)) for event_id in ("nonsense", "7", own + "9" * 30, "x" * 5000)]
        assert [each.status for each in given] == [400] * 7
        assert given[0] == given[1]
        assert (await at.resume(own)).status == 200


@pytest.mark.parametrize("event_id", ["-1", "_GET_stream", "' OR 1=1 --", "\xff", "a:b:c:d"])
async def test_a_malformed_event_id_is_refused(cluster: Cluster, event_id: str) -> None:
    client = await cluster.session(cluster.a)
    for node in cluster.nodes:
        assert (await cluster.same(client, node).resume(event_id)).status == 400


async def test_another_principal_is_answered_as_if_there_were_no_session(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(auth=True)
    alice = await cluster.session(cluster.a, "alice")
    event_id = await some_event(alice)
    for node in cluster.nodes:
        for token in ("bob", "carol"):
            thief, nobody = cluster.same(alice, node, token), cluster.same(alice, node, token)
            nobody.session_id = FORGED
            refused = await answers(thief, event_id)
            assert [each.status for each in refused] == [404] * 5
            assert refused == await answers(nobody, event_id)
        assert await cluster.same(alice, node).result("echo", text="mine") == "mine"
    bare = cluster.same(alice, cluster.b)
    bare.token = None
    assert [each.status for each in await answers(bare, event_id)] == [401] * 5
    # Whoever the session was adopted for, it stays alice's.
    assert await cluster.same(alice, cluster.b).result("recall", key="nothing") == "None"


async def test_an_answer_of_another_principal_does_not_reach_the_tool(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(auth=True)
    alice = await cluster.session(cluster.a, "alice")
    asking = await alice.call("ask", question="What?")
    asked = (await asking.until_message()).message
    lie = {"action": "accept", "content": {"answer": "a lie"}}
    truth = {"action": "accept", "content": {"answer": "the truth"}}
    for node in cluster.nodes:
        assert (await cluster.same(alice, node, "bob").respond(asked, lie)).status == 404
    assert (await alice.respond(asked, truth)).status == 202
    assert "the truth" in str((await asking.rest())[-1].message)


@pytest.mark.parametrize(
    ("header", "value", "status"), [("host", "evil.example", 421), ("origin", "http://evil.example", 403)]
)
async def test_the_protection_against_dns_rebinding_covers_every_request(
    cluster: Cluster, header: str, value: str, status: int
) -> None:
    client = await cluster.session(cluster.a)
    event_id = await some_event(client)
    for node in cluster.nodes:
        at, evil = cluster.same(client, node), {header: value}
        given = [
            await at.open_get(**evil),
            await at.resume(event_id, **evil),
            await at.post({"jsonrpc": "2.0", "id": 1, "method": "ping"}, **evil),
            await at.send("DELETE", headers=evil),
        ]
        assert [each.status for each in given] == [status] * 4
        assert await at.result("echo", text="still there") == "still there"


async def test_a_get_that_does_not_accept_sse_is_not_acceptable(cluster: Cluster) -> None:
    client = await cluster.session(cluster.a)
    event_id = await some_event(client)
    for node in cluster.nodes:
        at = cluster.same(client, node)
        assert (await at.open_get(accept="application/json")).status == 406
        assert (await at.resume(event_id, accept="application/json")).status == 406
        assert (await at.resume(event_id, accept="application/json, text/event-stream")).status == 200
