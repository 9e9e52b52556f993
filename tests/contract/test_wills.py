"""A stream whose node dies is ended with its will, once, and what that node writes afterwards is refused."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from mcp_persist_sa import InvalidInput, PersistError, Store, StreamClaimed
from tests.contract.support import rest
from tests.databases import Database

WILL = '{"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"gone"}}'
QUICK: dict[str, Any] = {"node_lease": 0.5, "poll_interval": 0.05}


async def test_a_stream_of_a_node_that_left_is_ended_with_its_will(shared_database: Database) -> None:
    node, other = await shared_database.open(**QUICK), await shared_database.open(**QUICK)
    await node.join()
    first = await node.claim("session", "7", will=WILL).append("1").durable()
    await node.close()
    assert [item.message for item in await rest(other.tail("session", after=first))] == [WILL]
    page = await other.read("session", stream_id="7")
    assert [event.message for event in page.events] == ["1", WILL]
    assert page.finished
    assert await rest(other.tail("session", after=page.event_id)) == []


async def test_a_node_that_was_taken_for_dead_writes_no_more(shared_database: Database) -> None:
    node = await shared_database.open(**QUICK)
    # By this clock the lease of the other has run out long ago.
    later = await shared_database.open(**QUICK, clock=lambda: datetime.now(timezone.utc) + timedelta(hours=1))
    await node.join()
    writer = node.claim("session", "7", will=WILL)
    first = await writer.append("1").durable()
    assert [item.message for item in await rest(later.tail("session", after=first))] == [WILL]
    for final in (False, True):
        with pytest.raises(StreamClaimed):
            await writer.append("too late", final=final).durable()
    assert [event.message for event in (await node.read("session", stream_id="7")).events] == ["1", WILL]


async def test_many_who_wait_end_a_stream_once(shared_database: Database) -> None:
    node, other = await shared_database.open(**QUICK), await shared_database.open(**QUICK)
    await node.join()
    first = await node.claim("session", "7", will=WILL).append("1").durable()
    await node.close()
    tails = await asyncio.gather(*(rest(other.tail("session", after=first)) for _ in range(8)))
    assert {tuple(item.message for item in items) for items in tails} == {(WILL,)}


async def test_a_will_needs_a_node(store: Store) -> None:
    with pytest.raises(PersistError, match="join"):
        store.claim("session", "1", will=WILL)
    await store.join()
    with pytest.raises(InvalidInput):
        store.claim("session", "1", will="\0")


async def test_a_stream_whose_node_lives_goes_on(store: Store) -> None:
    await store.join()
    writer = store.claim("session", "1", will=WILL)
    await writer.append("1").durable()
    page = await store.read("session", stream_id="1")
    assert not page.abandoned
    await writer.append("2", final=True).durable()
    assert [item.message for item in await rest(store.tail("session", stream_id="1"))] == ["1", "2"]
