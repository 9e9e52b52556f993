"""The demonstration: a writer is killed in the middle of a stream, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

from mcp_persist_sa.dsn import parse
from mcp_persist_sa.errors import InvalidDSN
from mcp_persist_sa.identity import new_session_id
from mcp_persist_sa.models import Event
from mcp_persist_sa.store import Store, open_store

STREAM = "demo"
_LOOK_EVERY = 0.05


@dataclass
class Outcome:
    """What the reader saw.

    Attributes:
        events: How many events the stream should have.
        before: Sequence numbers read before the writer was killed.
        after: Those read after the reader had opened the store anew and resumed.
    """

    events: int
    before: list[int] = field(default_factory=list[int])
    after: list[int] = field(default_factory=list[int])

    @property
    def lost(self) -> int:
        """Events that never came."""
        return len(set(range(1, self.events + 1)) - {*self.before, *self.after})

    @property
    def doubled(self) -> int:
        """Events that came more than once."""
        return sum(count - 1 for count in Counter(self.before + self.after).values())

    @property
    def in_order(self) -> bool:
        """Whether they came in order."""
        return sorted(self.before + self.after) == self.before + self.after


async def run(dsn: str, events: int, say: Callable[[str], None], progress: Callable[[int], None]) -> Outcome:
    """Write, kill, write on, and read all the while.

    Args:
        dsn: The database.
        events: The length of the stream.
        say: Called with each step.
        progress: Called with the number of each event that is read.

    Raises:
        InvalidDSN: The database is one that two processes cannot share.
    """
    if parse(dsn).is_memory:
        raise InvalidDSN("The demonstration is of two processes, which cannot share a database in memory. Name a file.")
    outcome, session_id = Outcome(events), new_session_id()
    say(f"Session {session_id}: a writer process appends {events} events, this process tails them.")
    async with open_store(dsn, poll_interval=_LOOK_EVERY) as store, _writer(dsn, session_id, events) as writer:
        last = await _read(store, session_id, None, events // 3, outcome.before, progress)
        writer.send_signal(signal.SIGKILL)
        await writer.wait()
    say(f"Killed the writer (SIGKILL) after event {len(outcome.before)}, and closed the store.")
    async with open_store(dsn, poll_interval=_LOOK_EVERY) as store, _writer(dsn, session_id, events):
        say(f"A new writer goes on. Resuming after Last-Event-ID {last}.")
        await _read(store, session_id, last, events, outcome.after, progress)
        await store.sessions.delete(session_id)
    return outcome


async def _read(
    store: Store, session_id: str, after: str | None, count: int, seen: list[int], progress: Callable[[int], None]
) -> str:
    """Tail until `count` events were seen, or the stream ends, and give the last event id."""
    last = after or ""
    stream_id = None if after else STREAM
    async with aclosing(store.tail(session_id, after=after, stream_id=stream_id)) as items:
        async for item in items:
            if isinstance(item, Event):
                seen.append(item.sequence)
                last = item.event_id
                progress(item.sequence)
            if len(seen) >= count:
                break
    return last


@asynccontextmanager
async def _writer(dsn: str, session_id: str, events: int) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    command = (sys.executable, "-m", "mcp_persist_sa.demo", session_id, str(events))
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "MCP_PERSIST_SA_DSN": dsn})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def write(session_id: str, events: int) -> None:
    """What the writer process does: append what is missing of the stream."""
    async with open_store() as store:
        written = 0
        async for info in store.streams(session_id):
            written = info.last_sequence
        for number in range(written + 1, events + 1):
            message = (
                f'{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"info","data":{number}}}}}'
            )
            await store.append(session_id, STREAM, message, final=number == events)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], int(sys.argv[2])))
