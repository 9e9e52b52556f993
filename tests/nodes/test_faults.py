"""The store is away, slow, locked or full: sessions go on, nothing hangs, and what was queued is there afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path

import pytest
import pytest_asyncio

from mcp_persist_sa import open_store
from mcp_persist_sa.migrate import upgrade
from tests.contract.support import execute
from tests.databases import Database
from tests.hunts.support import eventually
from tests.nodes import outages
from tests.nodes.client import Client, text_of
from tests.nodes.cluster import Cluster, gates
from tests.nodes.conftest import Interpreter, ProcessOf
from tests.nodes.frames import Frame, Response, messages_of, told
from tests.nodes.node import NewProcess, Node, run_by
from tests.nodes.outages import AWAY, PATIENCE_OF_NODES, READABLE, Outage, SmallDisk
from tests.servers import Databases

pytestmark = pytest.mark.asyncio(loop_scope="session")

Send = Callable[[], Awaitable[Response]]


class Faulty(Cluster):
    """Two nodes on a store with a fault to inflict."""

    def __init__(self, outage: Outage, new_process: NewProcess, host: str, **options: str) -> None:
        given = {"poll_interval": "0.05", **options}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        super().__init__(new_process, host, f"{outage.dsn}?{query}", persistence={"patience": PATIENCE_OF_NODES})
        self.outage = outage


MakeFaulty = Callable[..., Awaitable[Faulty]]


@pytest_asyncio.fixture(loop_scope="session")
async def make_faulty(
    request: pytest.FixtureRequest, process_of: ProcessOf, tmp_path: Path
) -> AsyncIterator[MakeFaulty]:
    """Gives two nodes on a store with a fault of some kind; no node may have failed in a way that it did not expect."""
    async with AsyncExitStack() as stack:
        made: list[Faulty] = []

        async def make(kind: str, host: str = "mcpserver", **options: str) -> Faulty:
            if kind == "busy file":
                outage = stack.enter_context(outages.busy_file(tmp_path / "store.db"))
            elif kind == "paused":
                server = request.getfixturevalue("own_postgres")
                dsn = server.create_database("faults")
                await upgrade(dsn)
                outage = stack.enter_context(outages.paused(server, dsn))
            else:
                dsn = await _new_postgres(request.getfixturevalue("postgres_template"), stack)
                outage = await stack.enter_async_context(outages.on_the_way(dsn, kind))
            made.append(Faulty(outage, process_of(host), host, **options))
            await stack.enter_async_context(made[-1])
            return made[-1]

        yield make
        for node in [node for cluster in made for node in cluster.nodes]:
            assert "Traceback" not in node.errors(), node.errors()


async def _new_postgres(templates: Databases, stack: AsyncExitStack) -> str:
    dsn = templates.clone(templates.template("migrated", upgrade))
    stack.callback(templates.drop, dsn)
    return dsn


async def accepted(send: Send, **status: int) -> Response:
    """The answer to a request that is refused while the store is away, and then is not."""
    answers: list[Response] = []

    async def is_accepted() -> bool:
        answers.append(await send())
        if answers[-1].status != 503:
            return True
        assert answers[-1].head.get("retry-after")
        await answers[-1].body()
        return False

    await eventually("the request is accepted", is_accepted)
    return answers[-1]


async def refused(send: Send) -> None:
    """A request is answered by 503 and when to come again."""
    response = await send()
    assert response.status == 503, response.head
    assert int(response.head.get("retry-after") or 0) > 0
    assert "error" in await response.json()


async def has_ids(client: Client) -> bool:
    frames = await (await client.call("echo", text="ids")).rest()
    return all(frame.id for frame in frames)


async def from_there(client: Client, event_id: str) -> list[Frame]:
    """What follows an event of a finished stream."""
    resumed = await accepted(lambda: client.resume(event_id))
    assert resumed.status == 200
    return messages_of(await resumed.rest())


def data_of(frames: list[Frame]) -> list[bytes]:
    return [frame.data for frame in frames]


ON_OTHER_HOSTS = ("a black hole that swallows", "busy file")
MAIN = [
    *(("mcpserver", kind) for kind in (*AWAY, *READABLE)),
    *((host, kind) for host in ("fastmcp1", "fastmcp4") for kind in ON_OTHER_HOSTS),
]


async def durable_call(client: Client, node: Node, gates: Iterator[str], to: int) -> tuple[Response, Frame, str]:
    """A call whose first step is stored, that step, and the gate of the others: a busy machine may miss the first."""
    for gate in islice(gates, 20):
        calling = await client.call("gate_count", progress="p", to=to, gate=gate)
        await node.step(gate)
        first = await calling.until_message()
        if first.id:
            return calling, first, gate
        calling.cut()
    raise AssertionError("No step was ever stored.")


async def call_without_store(client: Client, node: Node, gates: Iterator[str], outage: Outage) -> list[Frame]:
    """Make calls while the store is away, one that began before; gives its messages, of which the first has an id."""
    calling, first, gate = await durable_call(client, node, gates, to=4)
    live = [first]
    outage.begin()
    for _ in range(2):
        await node.step(gate)
        live.append(await calling.until_message())
    between = messages_of(await (await client.call("echo", id="between", text="between")).rest())
    assert [text_of(frame.message) for frame in between] == ["between"]
    assert await client.result("notify", text="news") == "a notified"
    assert [await node.step(gate), await node.step(gate)] == [4, "end"]
    live += messages_of(await calling.rest())
    assert told(live) == [f"a+{number}" for number in range(1, 5)]
    assert [frame.id for frame in (*live[1:], *between)] == [None] * 5
    return live


@pytest.mark.parametrize(("host", "kind"), MAIN)
async def test_a_session_goes_on_without_its_store_and_is_durable_again(
    make_faulty: MakeFaulty, host: str, kind: str
) -> None:
    cluster = await make_faulty(kind, host)
    client = await cluster.session(cluster.a)
    listening = await client.open_get()
    await anext(listening)
    live = await call_without_store(client, cluster.a, cluster.gates(), cluster.outage)
    cluster.outage.end()
    await eventually("frames have ids", lambda: has_ids(client))
    for node in cluster.nodes:
        assert data_of(await from_there(cluster.same(client, node), live[0].id or "")) == data_of(live[1:])
    news = await listening.until_message()
    assert (told([news]), bool(news.id)) == (["news"], True)


if outages.can_mount():

    async def test_a_session_goes_on_with_a_full_disk_and_is_durable_when_there_is_room(
        interpreter: Interpreter, tmp_path: Path
    ) -> None:
        disk = SmallDisk(tmp_path, interpreter("mcp2"))
        full = disk.outage(lambda: node.pid)
        options = {"host": "mcpserver", "name": "a", "persistence": {"patience": PATIENCE_OF_NODES}}
        async with Node(run_by(disk.interpreter), dsn=f"{full.dsn}?poll_interval=0.05", **options) as node:
            async with Client(node.address) as client:
                await client.initialize()
                listening = await client.open_get()
                await anext(listening)
                live = await call_without_store(client, node, gates(), full)
                full.end()
                await eventually("frames have ids", lambda: has_ids(client))
                assert data_of(await from_there(client, live[0].id or "")) == data_of(live[1:])
                assert told([await listening.until_message()]) == ["news"]
            assert "Traceback" not in node.errors(), node.errors()


async def test_an_outage_that_outlasts_the_leases_of_the_nodes_ends_no_call(make_faulty: MakeFaulty) -> None:
    cluster = await make_faulty("refused", node_lease="10")
    client = await cluster.session(cluster.a)
    _, first, gate = await durable_call(client, cluster.a, cluster.gates(), to=3)
    resumed = await cluster.same(client, cluster.b).resume(first.id or "")
    cluster.outage.begin()
    database = Database("postgres", cluster.outage.direct)

    async def leases_are_over() -> bool:
        return await execute(database, "SELECT count(*) FROM mcp_nodes WHERE expires_at > now()") == [(0,)]

    await eventually("the leases are over", leases_are_over)
    await cluster.a.step(gate)
    cluster.outage.end()
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [3, "end"]
    frames = messages_of(await resumed.rest())
    assert (told(frames), text_of(frames[-1].message)) == (["a+2", "a+3"], "a counted to 3")


@pytest.mark.parametrize("kind", AWAY)
async def test_a_client_that_is_cut_while_the_store_is_away_receives_everything_afterwards(
    make_faulty: MakeFaulty, kind: str
) -> None:
    cluster = await make_faulty(kind)
    client = await cluster.session(cluster.a)
    at = [cluster.same(client, node) for node in cluster.nodes]
    assert await at[1].result("who") == str(cluster.b.pid)
    calling, first, gate = await durable_call(client, cluster.a, cluster.gates(), to=4)
    cluster.outage.begin()
    await cluster.a.step(gate)
    calling.cut()
    for each in at:
        await refused(lambda each=each: each.resume(first.id or ""))
        await refused(each.open_get)
    await cluster.a.step(gate)
    cluster.outage.end()
    resumed = [await accepted(lambda each=each: each.resume(first.id or "")) for each in at]
    assert [await cluster.a.step(gate), await cluster.a.step(gate)] == [4, "end"]
    for response in resumed:
        frames = messages_of(await response.rest())
        assert (told(frames), text_of(frames[-1].message)) == (["a+2", "a+3", "a+4"], "a counted to 4")


@pytest.mark.parametrize("kind", [*AWAY, *READABLE])
async def test_a_session_that_is_opened_without_its_store_is_recorded_later(make_faulty: MakeFaulty, kind: str) -> None:
    cluster = await make_faulty(kind)
    cluster.outage.begin()
    client = await cluster.session(cluster.a)
    assert await client.result("echo", text="it works") == "it works"
    await refused(client.open_get)
    cluster.outage.end()
    at_b = cluster.same(client, cluster.b)

    async def is_known() -> bool:
        response = await accepted(lambda: at_b.call("who"))
        assert response.status in (200, 404)
        return response.status == 200

    # Without a further request to the node at which it was opened.
    await eventually("the other node knows it", is_known)
    assert await client.result("remember", key="colour", value="red") == "remembered"
    assert await at_b.result("recall", key="colour") == "red"


@pytest.mark.parametrize("kind", AWAY)
async def test_a_node_that_cannot_adopt_a_session_says_when_to_come_again(make_faulty: MakeFaulty, kind: str) -> None:
    cluster = await make_faulty(kind)
    client = await cluster.session(cluster.a)
    assert await client.result("remember", key="colour", value="red") == "remembered"
    at_b = cluster.same(client, cluster.b)
    cluster.outage.begin()
    await refused(lambda: at_b.call("echo", text="x"))
    await refused(at_b.open_get)
    await refused(at_b.delete)
    cluster.outage.end()
    response = await accepted(lambda: at_b.call("recall", key="colour"))
    assert text_of(await at_b.answer_of(response)) == "red"
    assert await client.result("recall", key="colour") == "red"


@pytest.mark.parametrize("kind", [*AWAY, "busy file"])
async def test_a_session_is_not_said_to_be_deleted_when_it_may_not_be(make_faulty: MakeFaulty, kind: str) -> None:
    cluster = await make_faulty(kind)
    client, gate = await cluster.session(cluster.a), cluster.gate()
    at_b = cluster.same(client, cluster.b)
    assert await at_b.result("echo", text="x") == "x"
    cluster.outage.begin()
    calling = await client.call("gate_count", progress="p", to=1, gate=gate)
    # Notifications that wait for the store do not make the end wait.
    assert await client.result("notify", text="news") == "a notified"
    await refused(client.delete)
    assert told(await calling.rest()) == []
    cluster.outage.end()
    # It may have been carried out after all.
    assert (await accepted(at_b.delete)).status in (200, 404)
    for each in (client, at_b):
        assert (await each.call("echo", text="x")).status == 404
    other = await cluster.session()
    assert await other.result("echo", text="others go on") == "others go on"


@pytest.mark.parametrize(
    ("host", "kind"),
    [*(("mcpserver", kind) for kind in READABLE), *((host, ON_OTHER_HOSTS[0]) for host in ("mcpserver", "fastmcp1"))],
)
async def test_an_answer_to_another_node_is_refused_while_the_store_is_away_and_yet_arrives(
    make_faulty: MakeFaulty, host: str, kind: str
) -> None:
    cluster = await make_faulty(kind, host)
    client = await cluster.session(cluster.a)
    at_b = cluster.same(client, cluster.b)
    assert await at_b.result("echo", text="known here") == "known here"
    told_red = {"action": "accept", "content": {"answer": "red"}}
    calling = await client.call("ask", question="What?")
    asked = (await calling.until_message()).message
    cluster.outage.begin()
    await refused(lambda: at_b.respond(asked, told_red))
    # Nobody waits for a notification, and clients take a refusal of one badly.
    assert (await at_b.cancel("nothing")).status == 202
    # Where it is asked, it is answered, under the same id as in the store.
    local = await client.call("ask", id="local", question="Here?")
    frame = await local.until_message()
    assert frame.id is None
    assert (await client.respond(frame.message, told_red)).status == 202
    assert text_of((await local.rest())[-1].message) == "a was told red"
    cluster.outage.end()
    # The SDKs' clients do not send again what was refused; whoever does is heard once.
    assert text_of((await calling.rest())[-1].message) == "a was told red"
    assert (await accepted(lambda: at_b.respond(asked, told_red))).status == 202
    await eventually("ids are back", lambda: has_ids(client))
    async with open_store(cluster.outage.direct or cluster.outage.dsn, background=False) as store:
        stored = await store.read(client.session_id or "", stream_id="local")
        assert frame.data.decode() in [event.message for event in stored.events]
