"""What a store knows of the nodes of its namespace, and that a node's inbox goes when the node is forgotten."""

from __future__ import annotations

from mcp_persist_sa import Store
from mcp_persist_sa.identity import inbox_of
from tests.contract.beside import count
from tests.contract.support import Clock
from tests.databases import Database


def name_of(node: Store) -> str:
    assert node.node_id is not None
    return node.node_id


async def test_a_node_is_known_from_its_first_lease_until_it_leaves(shared_database: Database) -> None:
    node, other = await shared_database.open(), await shared_database.open()
    assert await other.nodes() == {}
    await node.join()
    await other.join()
    assert await other.nodes() == await node.nodes() == {node.node_id: True, other.node_id: True}
    await node.close()
    assert await other.nodes() == {other.node_id: True}


async def test_a_node_whose_lease_ran_out_is_known_to_be_dead_until_it_is_purged(
    database: Database, clock: Clock
) -> None:
    store = await database.open(clock=clock, node_lease=3600)
    await store.join()
    clock.advance(seconds=3599)
    assert await store.nodes() == {store.node_id: True}
    clock.advance(seconds=1)
    assert await store.nodes() == {store.node_id: False}
    clock.advance(seconds=3599)
    await store.purge()
    assert await store.nodes() == {store.node_id: False}
    clock.advance(seconds=1)
    await store.purge()
    assert await store.nodes() == {}


async def test_nodes_of_another_namespace_are_neither_known_nor_purged(shared_database: Database, clock: Clock) -> None:
    node = await shared_database.open(namespace="one", clock=clock, node_lease=3600)
    other = await shared_database.open(namespace="two", clock=clock, node_lease=3600)
    await node.join()
    assert await other.nodes() == {}
    clock.advance(hours=3)
    await other.purge()
    assert await node.nodes() == {node.node_id: False}


async def test_an_inbox_goes_with_its_node_and_no_other(shared_database: Database) -> None:
    node, other = await shared_database.open(), await shared_database.open()
    await node.join()
    await other.join()
    for each in (node, other):
        await other.append(inbox_of(name_of(each)), "inbox", "x")
    left = await other.read(inbox_of(name_of(other)), stream_id="inbox")
    await node.close()
    assert await other.read(inbox_of(name_of(other)), stream_id="inbox") == left
    for what in ("events", "streams"):
        assert await count(shared_database, what) == 1


async def test_a_purge_removes_the_inbox_of_a_dead_node(shared_database: Database, clock: Clock) -> None:
    # The inbox does not go by its age.
    store = await shared_database.open(clock=clock, node_lease=3600, event_ttl=None)
    await store.join()
    inbox = inbox_of(name_of(store))
    await store.append(inbox, "inbox", "x")
    for hours, left in ((1, 1), (1, 0)):
        clock.advance(hours=hours)
        await store.purge()
        for what in ("events", "streams"):
            assert await count(shared_database, what) == left


async def test_an_inbox_is_no_session(database: Database) -> None:
    store = await database.open()
    await store.join()
    await store.append(inbox_of(name_of(store)), "inbox", "x")
    assert await store.sessions.count() == 0
    assert not await store.sessions.is_open(inbox_of(name_of(store)))
