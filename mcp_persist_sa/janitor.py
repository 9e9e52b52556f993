"""Retention that runs by itself: in every node, of which one at a time does the work."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from random import uniform

from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import TendingBackend

logger = logging.getLogger(__name__)


class Janitor:
    """Has the backend remove what has expired, again and again."""

    def __init__(self, backend: TendingBackend, options: Options) -> None:
        self._backend = backend
        self._interval = options.purge_interval if options.background else None
        self._lease = timedelta(seconds=options.node_lease)
        self._node_id: str | None = None
        self._running: asyncio.Task[None] | None = None

    def start(self, node_id: str) -> None:
        """Begin, in the name of a node."""
        if self._running is None and self._interval is not None:
            self._node_id = node_id
            self._running = asyncio.create_task(self._run(node_id, self._interval))

    async def _run(self, node_id: str, interval: float) -> None:
        while True:
            # Nodes that began together do not ask together, and who has the lease comes before it runs out.
            await asyncio.sleep(uniform(0.5, 1) * interval)
            try:
                removed = await self._backend.tend(node_id, self._lease, timedelta(seconds=interval))
            except PersistError as error:
                logger.warning("What has expired could not be removed; it is tried again: %(error)s", {"error": error})
                continue
            except Exception:
                logger.exception("What has expired could not be removed; it is tried again")
                continue
            if removed is not None and any(removed):
                logger.info(
                    "Removed: %(sessions)d sessions, %(streams)d streams, %(events)d events, %(state)d state",
                    removed._asdict(),
                )

    async def stop(self) -> None:
        """End, and leave it to another node."""
        if self._running is None or self._node_id is None:
            return
        self._running.cancel()
        await asyncio.wait({self._running})
        self._running = None
        try:
            await self._backend.leave_tending(self._node_id)
        except PersistError as error:
            logger.warning(
                "Others begin to remove what has expired when this node's lease is over: %(error)s",
                {"error": error},
            )
