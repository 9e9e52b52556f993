"""A process that appends in several ways at once and prints what is durable; it is there to be killed.

Its argument is JSON: the DSN, the name of the writer, and how many events a lane writes (none: until a line comes in).
It prints `opening`, `ready` (and waits for a line), `+ <event id> <message>` for each event once it is durable, `done`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from mcp_persist_sa import NewEvent, Store, open_store

SESSION = "session"
MANY = 20


def say(line: str) -> None:
    """Print a line whole: a pipe takes it in one piece or not at all."""
    os.write(1, f"{line}\n".encode())


@dataclass
class Lanes:
    """Four ways to write, each in its order."""

    store: Store
    name: str
    limit: int | None
    stopped: bool = False

    def _numbers(self) -> Iterator[int]:
        numbers = count() if self.limit is None else range(self.limit)
        for n in numbers:
            if self.stopped:
                return
            yield n

    async def run(self) -> None:
        await asyncio.gather(self._one_stream(), self._many_streams(), self._turns(), self._claimed())

    async def _one_stream(self) -> None:
        for n in self._numbers():
            message = f"{self.name}/one/{n}"
            say(f"+ {await self.store.append(SESSION, 'one', message)} {message}")

    async def _many_streams(self) -> None:
        for n in self._numbers():
            messages = [f"{self.name}/many/{3 * n + i}" for i in range(n % 3 + 1)]
            ids = await self.store.append_many(SESSION, f"many-{n % MANY}", [NewEvent(text) for text in messages])
            for event_id, message in zip(ids, messages, strict=True):
                say(f"+ {event_id} {message}")

    async def _turns(self) -> None:
        """Streams of one name, each ended by whoever comes to it."""
        for n in self._numbers():
            message = f"{self.name}/turns/{n}"
            say(f"+ {await self.store.append(SESSION, 'turns', message, final=n % 7 == 6)} {message}")

    async def _claimed(self) -> None:
        """Streams of its own, in bursts that nobody waits for one by one."""
        for n in self._numbers():
            writer = self.store.claim(SESSION, f"own-{self.name}-{n}")
            texts = [f"{self.name}/own/{10 * n + i}" for i in range(10)]
            receipts = [writer.append(text, final=text is texts[-1] and n % 2 == 0) for text in texts]
            for text, receipt in zip(texts, receipts, strict=True):
                say(f"+ {await receipt.durable()} {text}")


async def _run(lanes: Lanes, lines: asyncio.StreamReader) -> None:
    running = asyncio.ensure_future(lanes.run())
    if lanes.limit is None:
        stop = asyncio.ensure_future(lines.readline())
        await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        lanes.stopped = True
    await running


async def main(dsn: str, name: str, limit: int | None) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    say("opening")
    async with open_store(dsn) as store:
        say("ready")
        await lines.readline()
        await _run(Lanes(store, name, limit), lines)
    say("done")


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
