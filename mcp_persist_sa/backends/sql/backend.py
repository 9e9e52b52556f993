"""The store's data in a SQL database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from datetime import timedelta
from itertools import count
from typing import Any, Literal

from mcp_persist_sa.backends.sql import nodes, reads, sessions, state, streams
from mcp_persist_sa.backends.sql.appends import Appends, is_one_statement
from mcp_persist_sa.backends.sql.cutting import Cut
from mcp_persist_sa.backends.sql.operating import Operating
from mcp_persist_sa.backends.sql.purge import CALL
from mcp_persist_sa.backends.sql.reading import Reading
from mcp_persist_sa.batches import Append, Gate, Place
from mcp_persist_sa.compatibility import revision_of
from mcp_persist_sa.database import Database
from mcp_persist_sa.errors import SessionExists, SessionLimitReached
from mcp_persist_sa.identity import EventId, new_stream_key
from mcp_persist_sa.models import JSONValue, PoolHealth, Purged, Session, SessionPage, StateEntry, StreamInfo
from mcp_persist_sa.options import CLOSED_TTL, Options
from mcp_persist_sa.protocols import Located, SessionFilter
from mcp_persist_sa.stretches import Stretch


class SQLBackend(Operating):
    """Keeps everything in a database that the migrations have brought up to date."""

    def __init__(self, database: Database, options: Options) -> None:
        super().__init__(database, options)
        self._appends = Appends(database.dialect, options.namespace)

    def _touching(self) -> dict[str, Any]:
        """Uses are not all written down, so a session lives a little longer than its time, never shorter."""
        ttl = self._options.span("session_ttl")
        return {**self._common(), "session_ttl": None if ttl is None else ttl * 21 / 20}

    @property
    def _reading(self) -> Reading:
        return Reading(self._options.span("event_ttl"), self._now())

    # Events

    @property
    def writers(self) -> int:
        return 1 if self._database.dialect == "sqlite" else 2

    async def append(self, batch: Sequence[Append], gate: Gate) -> list[Place | Exception]:
        at = self._now()
        # A writer is cancelled at the end alone, when it has waited long enough.
        places = await self._once(
            lambda connection: self._appends.store(connection, batch, gate, at),
            atomic=not is_one_statement(batch),
            writes=True,
            protected=False,
        )
        await self._purge.growth.trim(batch, places)
        return places

    async def locate(self, session_key: str, stream_id: str) -> Located:
        reading = self._reading
        return await self._read(lambda c: streams.locate(c, session_key, stream_id, reading))

    async def read(self, session_key: str, after: EventId, *, limit: int, max_bytes: int) -> Stretch:
        reading = self._reading
        return await self._read(
            lambda c: reads.read_after(c, session_key, after, reading, limit=limit, max_bytes=max_bytes)
        )

    async def find_foreign(self, session_key: str, nonce: str) -> EventId | None:
        return await self._read(lambda c: reads.find_foreign(c, session_key, nonce))

    async def read_before(self, session_key: str, before: EventId, *, limit: int, max_bytes: int) -> Stretch:
        reading = self._reading
        return await self._read(
            lambda c: reads.read_before(c, session_key, before, reading, limit=limit, max_bytes=max_bytes)
        )

    async def streams(self, session_key: str, *, after: str, limit: int) -> list[StreamInfo]:
        reading = self._reading
        return await self._read(lambda c: streams.list_streams(c, session_key, reading, after=after, limit=limit))

    async def stream(self, session_key: str, stream_key: str) -> StreamInfo | None:
        reading = self._reading
        return await self._read(lambda c: streams.stream_info(c, session_key, stream_key, reading))

    async def end_abandoned(self, session_key: str, stream_key: str) -> None:
        await self._write(lambda c: nodes.end_abandoned(c, session_key, stream_key, self._common()), atomic=True)

    async def delete_before(self, session_key: str, stream_key: str, sequence: int) -> int:
        found = await self._read(lambda c: reads.range_before(c, session_key, stream_key, sequence))
        return 0 if found is None else await self._purge.cut([Cut(session_key, stream_key, *found)], "deleted", CALL)

    async def delete_events(self, session_key: str) -> Purged:
        return await self._purge.session_events(session_key)

    # Sessions

    async def create_session(
        self, session_key: str, session_id: str, values: Mapping[str, Any], *, fresh: bool
    ) -> Session:
        limit = self._options.max_sessions
        row = {**values, "session_key": session_key, "session_id": session_id, "namespace": self._options.namespace}

        async def create() -> Session:
            return await self._write(
                lambda c: sessions.create(c, row, limit, self._common()), atomic=limit is not None, repeatable=fresh
            )

        try:
            return await create()
        except (SessionExists, SessionLimitReached) as error:
            found = await self.session(session_key)
            if fresh and found is not None:
                return found
            if found is not None or isinstance(error, SessionLimitReached):
                raise
        # What an expired session left behind is not for the next one of its id.
        await self._purge.sessions([session_key], "session expired", CALL)
        return await create()

    async def session(self, session_key: str) -> Session | None:
        return await self._read(lambda c: sessions.get(c, session_key, self._common()))

    async def open_sessions(self, session_keys: Set[str]) -> set[str]:
        return await self._read(lambda c: sessions.open_among(c, session_keys, self._common()))

    async def update_session(
        self, session_key: str, values: Mapping[str, Any], expected: Mapping[str, Any] | None = None
    ) -> Session | None:
        return await self._write(lambda c: sessions.update(c, session_key, values, expected or {}, self._touching()))

    async def touch_session(self, session_key: str) -> bool:
        return await self._write(lambda c: sessions.touch(c, session_key, self._touching()))

    async def close_session(self, session_key: str) -> bool:
        ttl = self._options.span("session_ttl") or CLOSED_TTL
        return await self._write(lambda c: sessions.close(c, session_key, ttl, self._common()))

    async def delete_session(self, session_key: str) -> Purged:
        return await self._purge.sessions([session_key], "deleted", CALL)

    async def sessions(
        self, which: SessionFilter, *, after: str | None, limit: int, newest_first: bool = False
    ) -> SessionPage:
        page = sessions.SessionSlice(after, limit, newest_first)
        return await self._read(lambda c: sessions.listing(c, which, self._common(), page))

    async def count_sessions(self, which: SessionFilter) -> int:
        return await self._read(lambda c: sessions.count(c, which, self._common()))

    # State

    async def get_state(self, session_key: str, key: str) -> StateEntry | None:
        return await self._read(lambda c: state.get(c, session_key, key, self._common()))

    async def put_state(self, session_key: str, key: str, value: JSONValue, version: int | None) -> int | None:
        row = state.new_row(self._options.namespace, session_key, key, value, new_stream_key())
        sent = count()
        return await self._write(lambda c: state.put(c, row, version, self._common(), again=next(sent) > 0))

    async def delete_state(self, session_key: str, key: str) -> bool:
        return await self._write(lambda c: state.delete(c, session_key, key, self._common()))

    async def clear_state(self, session_key: str) -> int:
        return await self._write(lambda c: state.clear(c, session_key, self._common()))

    async def state_keys(self, session_key: str) -> list[str]:
        return await self._read(lambda c: state.keys(c, session_key, self._common()))

    # Nodes

    async def renew_node(self, node_id: str, lease: timedelta) -> None:
        await self._write(lambda c: nodes.renew(c, node_id, lease, self._common()))

    async def listen(self, session_key: str, node_id: str, *, anew: bool) -> bool:
        return await self._write(lambda c: nodes.listen(c, session_key, node_id, anew, self._common()))

    async def unlisten(self, session_key: str, node_id: str) -> None:
        await self._write(lambda c: nodes.unlisten(c, session_key, node_id))

    async def remove_node(self, node_id: str) -> None:
        await self._purge.node(node_id)

    async def nodes(self) -> dict[str, bool]:
        return await self._read(lambda c: nodes.known(c, self._common()))

    # The database

    async def revision(self) -> str | None:
        return await self._once(revision_of, atomic=False, writes=False)

    @property
    def system(self) -> Literal["sqlite", "postgresql"]:
        return "sqlite" if self._database.dialect == "sqlite" else "postgresql"

    def pool(self) -> PoolHealth | None:
        return self._database.pool()

    async def close(self) -> None:
        await self._database.close()
