"""A node that serves nobody: it joins, and looks after the tables in its turn. Its argument is JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from mcp_persist_sa import open_store


async def main(dsn: str, options: dict[str, Any]) -> None:
    async with open_store(dsn, **options) as store:
        await store.join()
        print(store.node_id)
        await asyncio.to_thread(input)


asyncio.run(main(*json.loads(sys.argv[1])))
