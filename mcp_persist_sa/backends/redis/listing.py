"""The index of sessions: how they are listed, counted and limited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

from mcp_persist_sa.backends.redis.keys import digest, micros, milliseconds, moment
from mcp_persist_sa.backends.redis.records import session_of
from mcp_persist_sa.backends.redis.room import Room
from mcp_persist_sa.backends.redis.scripts import INDEX, SESSION
from mcp_persist_sa.backends.redis.server import Call, Value
from mcp_persist_sa.identity import PagePlace
from mcp_persist_sa.models import Purged, Session, SessionPage
from mcp_persist_sa.protocols import SessionFilter

_CHUNK = 200
_UNDER_WAY = timedelta(minutes=1)
"""How long a session may be in the index and not be recorded, or the other way round."""

Entry = tuple[str, int]
"""A session key, and when it was opened."""


class Listing(Room):
    """Whoever lists sessions. The index is a hint; each session's own record says whether it is there."""

    def _index(self, action: str, *arguments: Value) -> Call:
        return Call(INDEX, [self._keys.index], [self._now(), action, *arguments])

    async def _take_place(self, session_key: str, limit: int) -> tuple[int, int]:
        under_way = _UNDER_WAY // timedelta(microseconds=1)
        outcome, count = (await self._server.write(self._index("reserve", session_key, limit, under_way)))[0]
        return outcome, count

    async def _release(self, session_key: str) -> None:
        await self._server.write(self._index("release", session_key))

    async def _enter(self, session_key: str, session: Session) -> None:
        """Write a session into the index, and remove some of those that are over."""
        for key in await self._enter_alone(session_key, session):
            await self._remove_if_over(key.decode())

    async def _enter_alone(self, session_key: str, session: Session) -> list[bytes]:
        moments = (session.created_at, session.expires_at, session.closed_at)
        left = milliseconds(self._options.span("event_ttl")) * 2
        arguments: list[Value] = ["" if at is None else micros(at) for at in moments]
        call = self._index("enter", session_key, *arguments, *_names(session), left)
        return (await self._server.write(call))[0]

    async def _remove_if_over(self, session_key: str) -> Purged:
        session = session_of(await self._read(SESSION, session_key, "get"))
        if session is None:
            return await self._remove(session_key, if_expired=True)
        await self._enter_alone(session_key, session)
        return Purged()

    async def _remove(self, session_key: str, *, if_expired: bool = False) -> Purged:
        session = session_of(await self._read(SESSION, session_key, "any"))
        removed = await self._write(SESSION, session_key, "remove", int(if_expired))
        if removed or session is None:
            await self._leave(session_key, session)
        return Purged(*removed) if removed else Purged()

    async def _leave(self, session_key: str, session: Session | None) -> None:
        await self._server.write(self._index("leave", session_key, *_names(session)))

    async def sessions(
        self, which: SessionFilter, *, after: str | None, limit: int, newest_first: bool = False
    ) -> SessionPage:
        """See `SessionBackend`."""
        found: list[tuple[str, Session]] = []
        begin = None if after is None else PagePlace.parse(after)
        place = begin and (begin.key, micros(begin.created_at))
        async for entry in self._matching(which, place, limit, newest_first=newest_first):
            found.append(entry)
            if len(found) == limit:
                break
        following = None
        if len(found) == limit:
            key, last = found[-1]
            following = str(PagePlace(last.created_at, key))
        return SessionPage(tuple(session for _, session in found), following)

    async def count_sessions(self, which: SessionFilter) -> int:
        """See `SessionBackend`."""
        return sum([1 async for _ in self._matching(which, None, _CHUNK)])

    async def _matching(
        self, which: SessionFilter, place: Entry | None, limit: int, *, newest_first: bool = False
    ) -> AsyncIterator[tuple[str, Session]]:
        while True:
            entries = await self._entries(which, place, min(_CHUNK, limit + 1), newest_first=newest_first)
            calls = [self._call(SESSION, key, "any") for key, _ in entries]
            records = await self._server.read(*calls) if calls else []
            for (key, created), record in zip(entries, records, strict=True):
                session = session_of(record)
                if session is None or session.created_at != moment(created):
                    await self._forget(key, created, session)
                elif self._matches(session, which):
                    yield key, session
            if not entries:
                return
            place = entries[-1]

    async def _entries(
        self, which: SessionFilter, place: Entry | None, count: int, *, newest_first: bool
    ) -> list[Entry]:
        """What follows a place in the narrowest index."""
        narrowed = [
            (kind, name) for kind, name in (("owner", which.owner), ("tenant", which.tenant)) if name is not None
        ]
        kind, name = narrowed[0] if narrowed else ("all", "")
        key, created = ("", "") if place is None else (place[0], str(place[1]))
        call = self._index("page", kind, digest(name), created, key, count, int(newest_first))
        answer = (await self._server.read(call))[0]
        return [(key.decode(), int(float(score))) for key, score in zip(answer[::2], answer[1::2], strict=True)]

    async def _forget(self, session_key: str, created: int, session: Session | None) -> None:
        """Take a session that is no more out of the index; a new one is recorded first and entered then."""
        if session is None and self._time() - moment(created) > _UNDER_WAY:
            await self._leave(session_key, None)

    def _matches(self, session: Session, which: SessionFilter) -> bool:
        return (
            (which.also_expired or session.expires_at is None or session.expires_at > self._time())
            and which.owner in (None, session.owner)
            and which.tenant in (None, session.tenant)
            and which.status in (None, session.status)
            and (which.active_since is None or session.last_seen_at >= which.active_since)
            and (which.idle_since is None or session.last_seen_at < which.idle_since)
        )

    def _time(self) -> datetime:
        return datetime.now(timezone.utc) if self._options.clock is None else self._options.clock()


def _names(session: Session | None) -> list[str]:
    names = (None, None) if session is None else (session.owner, session.tenant)
    return ["" if name is None else digest(name) for name in names]
