"""A store is copied while it is written to and read from; readers go on at the copy with their last event id."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random

from mcp_persist_sa import Event, Store
from mcp_persist_sa.operations import Moved, copy
from tests.moving.conftest import Pair
from tests.moving.support import contents, keys

PATIENCE = 60
WRITERS = 6
BEFORE, AFTER = 150, 20


class Writer:
    """Writes numbers into one stream, the shared way or as its only writer, and touches its session now and then."""

    def __init__(self, number: int) -> None:
        self.session_id = f"session{number % 3}"
        self.stream_id = f"stream{number}"
        self.is_claimed = number % 2 == 1
        self.count = 0
        self.progress = asyncio.Event()

    async def run(self, store: Store, until: int) -> None:
        own = store.claim(self.session_id, self.stream_id) if self.is_claimed and self.count == 0 else None
        while self.count < until:
            text = str(self.count)
            if own is not None:
                await own.append(text).durable()
            elif not self.is_claimed:
                await store.append(self.session_id, self.stream_id, text)
            self.count += 1
            self.progress.set()
            if self.count % 10 == 0:
                await store.state(self.session_id).update("count", lambda value: (value or 0) + 1)
                await store.append(self.session_id, f"{self.stream_id}-short", text, final=True)


class Reader:
    """Follows a stream, and goes on from its last event id."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.got: list[str | None] = []
        self.last: str | None = None

    async def run(self, store: Store, until: int) -> None:
        tail = store.tail(self.writer.session_id, self.writer.stream_id, after=self.last)
        async with aclosing(tail) as items:
            while len(self.got) < until:
                item = await asyncio.wait_for(anext(items), PATIENCE)
                assert isinstance(item, Event)
                self.got.append(item.message)
                self.last = item.event_id


async def test_readers_go_on_at_the_copy_and_lose_nothing(pair: Pair, rng: Random) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    for n in range(3):
        await source.sessions.create(f"session{n}")
    writers = [Writer(n) for n in range(WRITERS)]
    # Some are cut off in the middle, by the switch.
    readers = [(Reader(writer), BEFORE if slow else rng.randrange(1, BEFORE)) for writer in writers for slow in (0, 1)]
    switch, rounds = asyncio.Event(), 0

    def tell(moved: Moved) -> None:
        nonlocal rounds
        rounds += moved.stage == "follow"

    copying = asyncio.ensure_future(copy(source, target, until=switch, batch_size=20, on_progress=tell))
    await asyncio.gather(
        *(writer.run(source, BEFORE) for writer in writers), *(reader.run(source, until) for reader, until in readers)
    )
    switch.set()
    moved = await asyncio.wait_for(copying, PATIENCE)
    assert (moved.stage, moved.failures, moved.verified) == ("done", {}, 3)
    assert rounds > 0
    assert await keys(target) == await keys(source)
    for n in range(3):
        assert await contents(target, f"session{n}") == await contents(source, f"session{n}")
    await source.close()
    until = {True: BEFORE, False: BEFORE + AFTER}
    await asyncio.gather(
        *(writer.run(target, until[writer.is_claimed]) for writer in writers),
        *(reader.run(target, until[reader.writer.is_claimed]) for reader, _ in readers),
    )
    for reader, _ in readers:
        assert reader.got == [str(n) for n in range(until[reader.writer.is_claimed])]
