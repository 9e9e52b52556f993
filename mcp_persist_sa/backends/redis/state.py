"""How the state of a session, or of a handle that is none, is kept."""

from __future__ import annotations

import json
from itertools import count

from mcp_persist_sa.backends.redis.room import Room
from mcp_persist_sa.backends.redis.scripts import STATE
from mcp_persist_sa.backends.redis.server import Value
from mcp_persist_sa.faults import repeat
from mcp_persist_sa.identity import new_stream_key
from mcp_persist_sa.models import JSONValue, StateEntry
from mcp_persist_sa.refusals import value_unknown


class States(Room):
    """Whoever keeps state."""

    def _of(self, action: str, *arguments: Value) -> tuple[Value, ...]:
        return (action, self._ttl("state_ttl"), *arguments)

    async def get_state(self, session_key: str, key: str) -> StateEntry | None:
        """See `StateBackend`."""
        found = await self._read(STATE, session_key, *self._of("get", key))
        return StateEntry(json.loads(found[1]), int(found[0])) if found else None

    async def put_state(self, session_key: str, key: str, value: JSONValue, version: int | None) -> int | None:
        """See `StateBackend`."""
        expected = "" if version is None else str(version)
        text, writer, sent = json.dumps(value, allow_nan=False), new_stream_key(), count()

        async def put() -> int | None:
            again = next(sent) > 0
            call = self._call(STATE, session_key, *self._of("put", key, text, writer, expected))
            written, last = (await self._server.once([call]))[0]
            if written:
                return int(last)
            if again and not (version and 0 < int(last) <= version + 1):
                raise value_unknown()
            return None

        return await repeat(put, self._options.timeout, writes=True, repeatable=True)

    async def delete_state(self, session_key: str, key: str) -> bool:
        """See `StateBackend`."""
        return bool(await self._write(STATE, session_key, *self._of("delete", key)))

    async def clear_state(self, session_key: str) -> int:
        """See `StateBackend`."""
        return await self._write(STATE, session_key, *self._of("clear"))

    async def state_keys(self, session_key: str) -> list[str]:
        """See `StateBackend`."""
        return sorted(key.decode() for key in await self._read(STATE, session_key, *self._of("keys")))
