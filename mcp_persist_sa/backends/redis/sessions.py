"""How sessions are recorded and ended."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from mcp_persist_sa.backends.redis.keys import span
from mcp_persist_sa.backends.redis.listing import Listing
from mcp_persist_sa.backends.redis.records import session_of, written
from mcp_persist_sa.backends.redis.scripts import SESSION
from mcp_persist_sa.models import Purged, Session
from mcp_persist_sa.options import CLOSED_TTL
from mcp_persist_sa.refusals import session_exists, session_limit_reached


class Sessions(Listing):
    """Whoever records sessions. A record is written first, and then entered in the index, which is in another slot."""

    def _used_ttl(self) -> str:
        """Uses are not all written down, so a session lives a little longer than its time, never shorter."""
        ttl = self._options.span("session_ttl")
        return span(None if ttl is None else ttl * 21 / 20)

    async def create_session(
        self, session_key: str, session_id: str, values: Mapping[str, Any], *, fresh: bool
    ) -> Session:
        """See `SessionBackend`."""
        reserved = await self._reserve(session_key, fresh=fresh)
        fields = {
            name: text for name, text in written({**values, "session_id": session_id}).items() if text is not None
        }
        pairs = [part for field in fields.items() for part in field]
        how, record = await self._write(
            SESSION, session_key, "create", self._ttl("session_ttl"), *pairs, repeatable=fresh
        )
        session = session_of(record)
        assert session is not None
        if how == b"exists" and not fresh:
            if reserved:
                await self._release(session_key)
            raise session_exists()
        await self._enter(session_key, session)
        return session

    async def _reserve(self, session_key: str, *, fresh: bool) -> bool:
        """Take a place where their number is limited; whether it was not taken already."""
        limit = self._options.max_sessions
        if limit is None:
            return False
        outcome, count = await self._take_place(session_key, limit)
        if not outcome:
            raise session_limit_reached(count)
        return outcome == 1

    async def session(self, session_key: str) -> Session | None:
        """See `SessionBackend`."""
        return session_of(await self._read(SESSION, session_key, "get"))

    async def open_sessions(self, session_keys: Set[str]) -> set[str]:
        """See `SessionBackend`."""
        keys = [*session_keys]
        answers = await self._server.read(*(self._call(SESSION, key, "is_open") for key in keys)) if keys else []
        return {key for key, is_open in zip(keys, answers, strict=True) if is_open}

    async def update_session(
        self, session_key: str, values: Mapping[str, Any], expected: Mapping[str, Any] | None = None
    ) -> Session | None:
        """See `SessionBackend`."""
        pairs = [
            part
            for name, text in [*written(expected or {}).items(), *written(values).items()]
            for part in (name, "-" if text is None else f"+{text}")
        ]
        found = await self._write(SESSION, session_key, "update", self._used_ttl(), len(expected or {}), *pairs)
        return await self._entered(session_key, found)

    async def touch_session(self, session_key: str) -> bool:
        """See `SessionBackend`."""
        return await self.update_session(session_key, {}) is not None

    async def close_session(self, session_key: str) -> bool:
        """See `SessionBackend`."""
        ttl = self._options.span("session_ttl") or CLOSED_TTL
        return await self._entered(session_key, await self._write(SESSION, session_key, "close", span(ttl))) is not None

    async def _entered(self, session_key: str, record: list[bytes]) -> Session | None:
        session = session_of(record)
        if session is not None:
            await self._enter(session_key, session)
        return session

    async def delete_session(self, session_key: str) -> Purged:
        """See `SessionBackend`."""
        return await self._remove(session_key)
