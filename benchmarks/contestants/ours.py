"""This package. A message is written as text as the layer for the SDK does it, and that is measured too."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

from mcp.server.streamable_http import EventMessage
from mcp_types import JSONRPCMessage

from benchmarks.contestants.shape import Contestant, Receive
from benchmarks.databases import Database
from benchmarks.figures import OURS
from benchmarks.parsing import parsed
from mcp_persist_sa import Event, NewEvent, Store, StreamWriter, open_store
from mcp_persist_sa.integrations.sdk import wire_text

NAME = OURS
APPEND, CLAIM = "ours, append", "ours, claim"
TEXT, PARSED = "ours, text", "ours, parsed"

_AT_ONCE = 2000


@asynccontextmanager
async def opened(database: Database) -> AsyncGenerator[Contestant, None]:
    """On a database."""
    async with open_ours(database) as store:
        ours = Ours(store)
        yield Contestant(
            NAME,
            ours.fill,
            ways_to_store={APPEND: ours.append, CLAIM: ours.append_claimed},
            ways_to_replay={TEXT: ours.replay_text, PARSED: ours.replay_parsed},
            ways_to_purge={NAME: store.purge},
        )


def open_ours(database: Database) -> Store:
    """The store, as durable as the database says."""
    options = {"synchronous": database.synchronous} if database.backend == "sqlite" else {}
    return open_store(database.dsn, migrate=database.backend != "redis" or None, **options)


class Ours:
    """A stream is given a session of its own name, as those of different clients have."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._writers: dict[str, StreamWriter] = {}

    async def append(self, stream: str, message: JSONRPCMessage) -> str:
        """To a stream to which anyone may append: the store numbers it."""
        return await self.store.append(stream, "1", wire_text(message))

    async def append_claimed(self, stream: str, message: JSONRPCMessage) -> str:
        """To a stream of one writer, which is what the SDK's request streams use."""
        writer = self._writers.get(stream)
        if writer is None:
            writer = self._writers[stream] = self.store.claim(stream, "claimed")
        return await writer.append(wire_text(message)).durable()

    async def fill(self, stream: str, messages: Sequence[JSONRPCMessage]) -> str:
        first = ""
        for begin in range(0, len(messages), _AT_ONCE):
            some = [NewEvent(wire_text(message)) for message in messages[begin : begin + _AT_ONCE]]
            if begin + _AT_ONCE >= len(messages):
                some[-1] = some[-1]._replace(final=True)
            ids = await self.store.append_many(stream, "1", some)
            first = first or ids[0]
        return first

    async def replay_text(self, stream: str, after: str, receive: Receive) -> None:
        """As it is used: a GET is answered with the text that was stored."""
        async with aclosing(self.store.tail(stream, after=after)) as tail:
            async for event in tail:
                receive(event)

    async def replay_parsed(self, stream: str, after: str, receive: Receive) -> None:
        """With the objects that the SDK's seam asks for, by a parser that gives what the SDK's gives."""

        async def send(event: EventMessage) -> None:
            receive(event)

        async with aclosing(self.store.tail(stream, after=after)) as tail:
            async for event in tail:
                assert isinstance(event, Event)
                assert event.message is not None
                await send(EventMessage(parsed(event.message), event.event_id))
