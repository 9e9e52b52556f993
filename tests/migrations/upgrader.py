"""A process that brings up to date whatever database it is told, line by line.

Each line is a verb (`upgrade`, or `open` for a store that does it as it opens) and a DSN. An argument names other
migrations than ours.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mcp_persist_sa import migrate, open_store


async def act(verb: str, dsn: str) -> None:
    if verb == "upgrade":
        await migrate.upgrade(dsn)
        return
    async with open_store(dsn) as store:
        await store.append("session", "stream", "{}")


def main(*folder: str) -> None:
    if folder:
        migrate.script_location = lambda: Path(folder[0])
    print("ready", flush=True)
    while line := sys.stdin.readline():
        verb, dsn = line.split(maxsplit=1)
        try:
            asyncio.run(act(verb, dsn.strip()))
        except Exception as error:
            print(f"failed: {error!r}", flush=True)
        else:
            print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
