"""A process that tails a stream from its beginning to its end and prints what it is given.

Its argument is JSON: the DSN. It prints `ready`, then for each item `<sequence> <event id> <message>` or
`gap <first> <last>`, and `done`.
"""

from __future__ import annotations

import asyncio
import json
import sys

from mcp_persist_sa import Event, open_store
from tests.hunts.child_writer import SESSION, say


async def main(dsn: str) -> None:
    # Nothing wakes a reader in another process: it has to look often to read between the writers' commits.
    async with open_store(dsn, poll_interval=0.005, page_events=50) as store:
        say("ready")
        async for item in store.tail(SESSION, stream_id="one"):
            if isinstance(item, Event):
                say(f"{item.sequence} {item.event_id} {item.message}")
            else:
                say(f"gap {item.first} {item.last}")
    say("done")


if __name__ == "__main__":
    asyncio.run(main(**json.loads(sys.argv[1])))
