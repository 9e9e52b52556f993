"""The leases of nodes, and at which of them the client of a session listens."""

from __future__ import annotations

from datetime import timedelta

from mcp_persist_sa.backends.redis.keys import span
from mcp_persist_sa.backends.redis.room import Room
from mcp_persist_sa.backends.redis.scripts import NODE, SESSION
from mcp_persist_sa.backends.redis.server import Call

_NOBODY = "-"


class Nodes(Room):
    """Whoever serves. A lease may be in another slot than the session, so it is looked at by itself."""

    def _node(self, node_id: str, *arguments: str) -> Call:
        return Call(NODE, [self._keys.node(node_id)], [self._now(), *arguments])

    async def renew_node(self, node_id: str, lease: timedelta) -> None:
        """See `NodeBackend`."""
        await self._server.write(self._node(node_id, "renew", span(lease)))

    async def remove_node(self, node_id: str) -> None:
        """See `NodeBackend`."""
        await self._server.write(self._node(node_id, "remove"))

    async def _is_alive(self, node_id: str) -> bool:
        return node_id != _NOBODY and bool((await self._server.read(self._node(node_id, "look")))[0])

    async def listen(self, session_key: str, node_id: str, *, anew: bool) -> bool:
        """See `NodeBackend`."""
        dead = ""
        while other := await self._write(SESSION, session_key, "listen", node_id, dead, int(anew)):
            dead = other.decode()
            if dead == _NOBODY or await self._is_alive(dead):
                return False
        return True

    async def unlisten(self, session_key: str, node_id: str) -> None:
        """See `NodeBackend`."""
        await self._write(SESSION, session_key, "unlisten", node_id)
