"""A process that mounts a small disk which nobody else sees, and fills it up; its argument is where."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from mcp_persist_sa import open_store
from tests.databases import Database
from tests.hunts.test_refusals import IMPATIENT, is_full_and_recovers

MEGABYTE = 1024 * 1024


async def main(folder: Path) -> None:
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(4 * MEGABYTE))
    dsn = f"sqlite:///{folder / 'store.db'}"
    async with open_store(dsn, **IMPATIENT) as store:
        await is_full_and_recovers(store, Database("sqlite", dsn), ballast.unlink)


if __name__ == "__main__":
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", sys.argv[1]], check=True)
    asyncio.run(main(Path(sys.argv[1])))
