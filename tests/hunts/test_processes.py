"""Eight processes write to one file or server, while readers follow in other processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from random import Random

from mcp_persist_sa import Event, Gap
from tests.databases import Database
from tests.hunts.child_writer import SESSION
from tests.hunts.processes import ReaderProcess, WriterProcess
from tests.hunts.support import HUNT, Row, check_intact, check_once, check_order, check_streams, stored_rows, streams_of

WRITERS = 8
EVENTS = 30 * HUNT


async def _tail_to_the_end(database: Database) -> list[Event | Gap]:
    store = await database.open(poll_interval=0.005)
    return [item async for item in store.tail(SESSION, stream_id="one")]


async def _tail_in_pieces(database: Database, rng: Random) -> list[Event | Gap]:
    """As a client that is disconnected again and again, and resumes on one node or the other."""
    nodes = [await database.open(poll_interval=0.005, page_events=limit) for limit in (3, 50)]
    items: list[Event | Gap] = []
    while True:
        last = next((item.event_id for item in reversed(items) if isinstance(item, Event)), None)
        node = rng.choice(nodes)
        tail = node.tail(SESSION, stream_id="one") if last is None else node.tail(SESSION, after=last)
        for _ in range(rng.randrange(1, 20)):
            try:
                items.append(await anext(tail))
            except StopAsyncIteration:
                return items
        await tail.aclose()


def _lines(items: list[Event | Gap]) -> list[str]:
    return [f"{item.sequence} {item.event_id} {item.message}" for item in items if isinstance(item, Event)]


async def test_eight_processes_write_while_others_read_and_nothing_is_lost_doubled_or_out_of_order(
    distinct_database: Database, rng: Random
) -> None:
    store = await distinct_database.open()
    async with AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(ReaderProcess(distinct_database)) for _ in range(2)]
        writers = [
            await stack.enter_async_context(WriterProcess(distinct_database, f"w{n}", EVENTS)) for n in range(WRITERS)
        ]
        reading = [asyncio.ensure_future(_tail_to_the_end(distinct_database))]
        reading.append(asyncio.ensure_future(_tail_in_pieces(distinct_database, rng)))
        for reader in readers:
            await reader.wait_for_line("ready")
        lines = [asyncio.ensure_future(reader.read_all()) for reader in readers]
        await asyncio.gather(*(writer.begin() for writer in writers))
        await asyncio.gather(*(writer.follow() for writer in writers))
        await store.append(SESSION, "one", "end", final=True)
        rows = await stored_rows(distinct_database)
        _check(rows, [writer.acknowledged for writer in writers])
        one = [row for row in rows if row.stream_id == "one"]
        expected = [f"{row.sequence} {row.event_id} {row.message}" for row in one]
        for items in await asyncio.gather(*reading):
            assert _lines(items) == expected
            assert len(items) == len(expected)
        for read in await asyncio.gather(*lines):
            assert read == expected
    check_intact(distinct_database)
    print(f"{len(rows)} events in {len(streams_of(rows))} streams, {len(expected)} in one of them")


def _check(rows: list[Row], acknowledged: list[dict[str, str]]) -> None:
    everything = {event_id: text for of_writer in acknowledged for event_id, text in of_writer.items()}
    assert len(everything) == len(rows) - 1
    check_streams(rows)
    check_once(rows, everything)
    check_order(rows)
