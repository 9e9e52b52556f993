"""This process as a node: the lease that tells the others that it lives."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from mcp_persist_sa.errors import PersistError
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.protocols import NodeBackend

logger = logging.getLogger(__name__)

_RENEWALS_PER_LEASE = 3


class Node:
    """A process that serves. Its lease is renewed until it leaves; if it runs out, others end the node's streams."""

    def __init__(self, backend: NodeBackend, lease: timedelta) -> None:
        self._backend = backend
        self._lease = lease
        self._node_id: str | None = None
        self._renewing: asyncio.Task[None] | None = None

    @property
    def node_id(self) -> str | None:
        """Under which the node is known, or None if it has not joined."""
        return self._node_id

    async def join(self) -> str:
        """Take a lease, and renew it from now on; gives the name of the node.

        Raises:
            StoreUnavailable: The database cannot be reached.
        """
        if self._node_id is None:
            node_id = new_stream_key()
            await self._backend.renew_node(node_id, self._lease)
            self._node_id = node_id
            self._renewing = asyncio.create_task(self._renew(node_id))
        return self._node_id

    async def _renew(self, node_id: str) -> None:
        while True:
            await asyncio.sleep(self._lease.total_seconds() / _RENEWALS_PER_LEASE)
            try:
                await self._backend.renew_node(node_id, self._lease)
            except PersistError as error:
                logger.warning("The lease of this node could not be renewed: %(error)s", {"error": error})

    async def listen(self, session_key: str, *, anew: bool) -> bool:
        """Take it that the client of a session listens here, where it does at no other node, or does so anew."""
        return self._node_id is None or await self._backend.listen(session_key, self._node_id, anew=anew)

    async def unlisten(self, session_key: str) -> None:
        """Give that up."""
        if self._node_id is not None:
            await self._backend.unlisten(session_key, self._node_id)

    async def leave(self) -> None:
        """Give the lease back; the calls that this node still runs are ended by whoever waits for them."""
        if self._renewing is None or self._node_id is None:
            return
        self._renewing.cancel()
        await asyncio.wait({self._renewing})
        self._renewing = None
        try:
            await self._backend.remove_node(self._node_id)
        except PersistError as error:
            logger.warning(
                "The lease of this node could not be given back, and runs out by itself: %(error)s", {"error": error}
            )
        self._node_id = None
