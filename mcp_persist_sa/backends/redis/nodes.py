"""The leases of nodes, and at which of them the client of a session listens."""

from __future__ import annotations

from datetime import timedelta

from mcp_persist_sa.backends.redis.keys import span
from mcp_persist_sa.backends.redis.room import Room
from mcp_persist_sa.backends.redis.scripts import NODE, SESSION
from mcp_persist_sa.backends.redis.server import Call
from mcp_persist_sa.options import FORGET_AFTER

_NOBODY = "-"


class Nodes(Room):
    """Whoever serves. The leases are in another slot than the sessions, so they are looked at by themselves."""

    def _leases(self, action: str, *arguments: str) -> Call:
        return Call(NODE, [self._keys.nodes], [self._now(), action, *arguments])

    async def renew_node(self, node_id: str, lease: timedelta) -> None:
        """See `NodeBackend`."""
        await self._server.write(self._leases("renew", node_id, span(lease), span(FORGET_AFTER)))

    async def nodes(self) -> dict[str, bool]:
        """See `NodeBackend`."""
        found = (await self._server.read(self._leases("all")))[0]
        return {node.decode(): bool(alive) for node, alive in zip(found[::2], found[1::2], strict=True)}

    async def _forget_node(self, node_id: str, *, if_old: bool) -> bool:
        """Remove a lease; not, if told so, one that has not run out long ago."""
        call = self._leases("remove", node_id, span(FORGET_AFTER) if if_old else "")
        return bool((await self._server.write(call))[0])

    async def _is_alive(self, node_id: str) -> bool:
        return node_id != _NOBODY and bool((await self._server.read(self._leases("look", node_id)))[0])

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
