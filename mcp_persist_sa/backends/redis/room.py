"""What the parts of the backend have in common."""

from __future__ import annotations

from typing import Any

from mcp_persist_sa.backends.redis.keys import Keys, micros, span
from mcp_persist_sa.backends.redis.scripts import Script
from mcp_persist_sa.backends.redis.server import Call, Server, Value
from mcp_persist_sa.options import Options


class Room:
    """A server, the keys of a namespace, and the time."""

    def __init__(self, server: Server, options: Options, keys: Keys) -> None:
        self._server = server
        self._options = options
        self._keys = keys

    def _now(self) -> str:
        """The time as scripts take it: nothing stands for the clock of the server."""
        return "" if self._options.clock is None else str(micros(self._options.clock()))

    def _ttl(self, name: str) -> str:
        return span(self._options.span(name))

    def _call(self, script: Script, session_key: str, *arguments: Value) -> Call:
        """A script on the keys of one session."""
        return Call(script, [self._keys.session(session_key)], [self._now(), *arguments])

    async def _read(self, script: Script, session_key: str, *arguments: Value) -> Any:
        return (await self._server.read(self._call(script, session_key, *arguments)))[0]

    async def _write(self, script: Script, session_key: str, *arguments: Value, repeatable: bool = True) -> Any:
        call = self._call(script, session_key, *arguments)
        return (await self._server.write(call, repeatable=repeatable))[0]
