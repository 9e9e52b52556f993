"""A node that serves until it is told to stop: it writes to a session of its own, and follows that of another node."""

from __future__ import annotations

import asyncio
import json
import sys

from mcp_persist_sa import Event, Store, open_store


async def serve(dsn: str, mine: str, other: str) -> None:
    async with open_store(dsn, poll_interval=0.05) as store:
        stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        following = asyncio.ensure_future(follow(store, other))
        print("ready", flush=True)
        written = await write(store, mine, stop)
        print(json.dumps({"written": written, "followed": await following}), flush=True)


async def write(store: Store, session_id: str, stop: asyncio.Future[str]) -> int:
    """Write to every table, and tell how far it is."""
    number = 0
    while not stop.done():
        number += 1
        await store.append(session_id, "stream", str(number))
        await store.sessions.create(f"{session_id}-{number}")
        await store.sessions.update(f"{session_id}-{number}", metadata={"number": number})
        await store.state(session_id).set("number", number)
        await store.read(session_id, stream_id="stream")
        print(f"written {number}", flush=True)
    await store.append(session_id, "stream", str(number + 1), final=True)
    return number + 1


async def follow(store: Store, session_id: str) -> int:
    """Follow to the end, and fail unless everything came once and in order."""
    expected = 0
    async for item in store.tail(session_id, stream_id="stream"):
        expected += 1
        assert isinstance(item, Event)
        assert item.message == str(expected)
    return expected


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
