"""Opens or upgrades a database with the package that is first on the path, and says what came of it."""

import asyncio
import json
import sys
from typing import Any

import mcp_persist_sa
from mcp_persist_sa import PersistError, migrate, open_store


async def main(tree: str, verb: str, dsn: str, options: dict[str, Any]) -> str:
    assert mcp_persist_sa.__file__.startswith(tree), mcp_persist_sa.__file__
    try:
        if verb == "upgrade":
            await migrate.upgrade(dsn, **options)
            return "upgraded"
        async with open_store(dsn, **options) as store:
            await store.append("session", "stream", "{}")
            return f"{len((await store.read('session', stream_id='stream')).events)} events"
    except PersistError as error:
        return f"{type(error).__name__}: {error}"


tree, verb, dsn, options = sys.argv[1:]
print(asyncio.run(main(tree, verb, dsn, json.loads(options))))
