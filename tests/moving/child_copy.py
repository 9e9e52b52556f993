"""A process that copies; it is there to be killed. It prints how many events it has written, `=` and what it moved.

Its argument is JSON: what `copy` takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
from dataclasses import asdict

from mcp_persist_sa.operations import Moved, copy


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def main() -> None:
    last = -1

    def tell(moved: Moved) -> None:
        nonlocal last
        if moved.events != last:
            last = moved.events
            _say(f"{last}")

    moved = await copy(**json.loads(sys.argv[1]), on_progress=tell)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    _say("= " + json.dumps({**asdict(moved), "peak_mib": peak}))


if __name__ == "__main__":
    asyncio.run(main())
