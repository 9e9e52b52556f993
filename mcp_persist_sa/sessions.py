"""The sessions of a store."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from mcp_persist_sa.checks import check_whole, json_value
from mcp_persist_sa.errors import InvalidInput, SessionNotFound
from mcp_persist_sa.hints import Hint, Notifier
from mcp_persist_sa.identity import check_name, check_session_id, new_session_id, session_key
from mcp_persist_sa.models import JSONValue, Purged, Session, SessionPage, SessionStatus
from mcp_persist_sa.options import Options
from mcp_persist_sa.protocols import SessionBackend, SessionFilter

_MAX_TOUCHED = 100_000


class Sessions:
    """Records of sessions. An expired session is not there any more, whether it was removed or not."""

    def __init__(self, backend: SessionBackend, notifier: Notifier, options: Options) -> None:
        self._backend = backend
        self._notifier = notifier
        self._options = options
        self._touched: dict[str, float] = {}

    def _key(self, session_id: str) -> str:
        return session_key(self._options.namespace, check_session_id(session_id))

    async def create(
        self,
        session_id: str | None = None,
        *,
        owner: str | None = None,
        tenant: str | None = None,
        protocol_version: str | None = None,
        client_info: JSONValue = None,
        handshake: JSONValue = None,
        metadata: Mapping[str, JSONValue] | None = None,
    ) -> Session:
        """Record a session.

        Args:
            session_id: The `Mcp-Session-Id`, or None for a fresh UUID of version 7.
            owner: The principal that opened it.
            tenant: The customer or group that it is accounted to.
            protocol_version: As negotiated.
            client_info: The client's `clientInfo`.
            handshake: What has to be replayed to serve the session on another node.
            metadata: Free JSON.

        Raises:
            SessionExists: There is one with this id.
            SessionLimitReached: There are `max_sessions` open ones.
            InvalidInput: A value cannot be stored.
        """
        given: dict[str, Any] = {
            "owner": owner,
            "tenant": tenant,
            "protocol_version": protocol_version,
            "client_info": client_info,
            "handshake": handshake,
            "metadata": {} if metadata is None else metadata,
        }
        new_id = new_session_id() if session_id is None else session_id
        values = self._checked(given)
        return await self._backend.create_session(self._key(new_id), new_id, values, fresh=session_id is None)

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("owner", "tenant", "protocol_version"):
            if values.get(name) is not None:
                check_name(name, values[name])
        if "metadata" in values:
            if not isinstance(values["metadata"], Mapping):
                raise InvalidInput("The metadata of a session is a mapping with str keys.")
            values["metadata"] = {**values["metadata"]}
        for name in ("client_info", "handshake", "metadata"):
            if name in values:
                json_value(name, values[name], self._options.max_state_bytes)
        return values

    async def get(self, session_id: str) -> Session:
        """A session, open or closed.

        Raises:
            SessionNotFound: There is none, or it has expired.
        """
        return _found(await self._backend.session(self._key(session_id)))

    async def is_open(self, session_id: str) -> bool:
        """Whether there is such a session, and it was neither closed nor has expired: one read by primary key."""
        return bool(await self.are_open([session_id]))

    async def are_open(self, session_ids: Collection[str]) -> set[str]:
        """Those of some sessions that are open, in one read by primary key."""
        keys = {self._key(session_id): session_id for session_id in session_ids}
        return {keys[key] for key in await self._backend.open_sessions(keys.keys())}

    async def amend_handshake(self, session_id: str, amend: Callable[[JSONValue], JSONValue]) -> Session:
        """Change the handshake of an open session, also where others do at the same time.

        Args:
            session_id: Which.
            amend: Gives the new handshake for the present one, which it must not change. It may be called often.

        Raises:
            SessionNotFound: There is none that is open.
            InvalidInput: The new handshake cannot be stored.
        """
        while True:
            session = await self.get(session_id)
            if session.status == "closed":
                raise _not_found()
            changed = amend(session.handshake)
            if changed == session.handshake:
                return session
            values = self._checked({"handshake": changed})
            written = await self._backend.update_session(
                self._key(session_id), values, {"handshake": session.handshake}
            )
            if written is not None:
                return written

    async def update(self, session_id: str, **values: Any) -> Session:
        """Write to an open session, and use it.

        Args:
            session_id: Which.
            **values: `owner`, `tenant`, `protocol_version`, `client_info`, `handshake` or `metadata`.

        Raises:
            SessionNotFound: There is none that is open.
            InvalidInput: A value cannot be stored, or there is no field of that name.
        """
        unknown = values.keys() - {"owner", "tenant", "protocol_version", "client_info", "handshake", "metadata"}
        if unknown:
            raise InvalidInput(f"A session has no field {min(unknown)!r} that can be written.")
        if values.get("metadata", {}) is None:
            values["metadata"] = {}
        return _found(await self._backend.update_session(self._key(session_id), self._checked(values)))

    async def touch(self, session_id: str) -> None:
        """Say that a session is in use. Most calls write nothing: one in a twentieth of the time to live is enough.

        Raises:
            SessionNotFound: There is none that is open. (Found out when it is written.)
        """
        key, moment = self._key(session_id), self._moment()
        if self._touched.get(key, 0.0) > moment:
            return
        if not await self._backend.touch_session(key):
            self._touched.pop(key, None)
            raise _not_found()
        if len(self._touched) >= _MAX_TOUCHED:
            self._touched.clear()
        self._touched[key] = moment + self._options.touch_interval.total_seconds()

    def _moment(self) -> float:
        clock = self._options.clock
        return time.monotonic() if clock is None else clock().timestamp()

    async def close(self, session_id: str) -> bool:
        """End a session for every node. It is remembered as closed for the time to live of a session.

        Returns:
            Whether it was open.
        """
        key = self._key(session_id)
        self._touched.pop(key, None)
        closed = await self._backend.close_session(key)
        self._notifier.notify({Hint(key)})
        return closed

    async def delete(self, session_id: str) -> Purged:
        """Remove a session with its streams, events and state, and say how much there was."""
        key = self._key(session_id)
        self._touched.pop(key, None)
        await self._backend.close_session(key)
        removed = await self._backend.delete_session(key)
        self._notifier.notify({Hint(key)})
        return removed

    async def delete_owner(self, owner: str) -> Purged:
        """Remove all sessions of one owner, those that have expired included."""
        check_name("owner", owner)
        removed = Purged()
        which = SessionFilter(owner=owner, also_expired=True)
        while page := (await self._backend.sessions(which, after=None, limit=100)).sessions:
            for session in page:
                removed = removed.plus(await self.delete(session.session_id))
        return removed

    async def list(
        self,
        *,
        owner: str | None = None,
        tenant: str | None = None,
        status: SessionStatus | None = None,
        active_since: datetime | None = None,
        idle_since: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
        newest_first: bool = False,
    ) -> SessionPage:
        """A page of sessions in the order in which they were opened.

        Args:
            owner: Only those of this principal.
            tenant: Only those of this tenant.
            status: Only those that are "open" or "closed".
            active_since: Only those used at or after this moment.
            idle_since: Only those not used since this moment.
            limit: Sessions in the page.
            after: The `next` of the page before.
            newest_first: The other way round; then the pages before have to be so too.
        """
        check_whole("limit", limit, 1)
        which = _filter(owner, tenant, status, active_since, idle_since)
        return await self._backend.sessions(which, after=after, limit=limit, newest_first=newest_first)

    async def all(self, **which: Any) -> AsyncGenerator[Session, None]:
        """All sessions, page by page; takes what `list` takes."""
        after: str | None = which.pop("after", None)
        while True:
            page = await self.list(**which, after=after)
            for session in page.sessions:
                yield session
            if page.next is None:
                return
            after = page.next

    async def count(
        self,
        *,
        owner: str | None = None,
        tenant: str | None = None,
        status: SessionStatus | None = None,
        active_since: datetime | None = None,
        idle_since: datetime | None = None,
    ) -> int:
        """How many sessions there are; filters as in `list`."""
        return await self._backend.count_sessions(_filter(owner, tenant, status, active_since, idle_since))


def _filter(
    owner: str | None,
    tenant: str | None,
    status: SessionStatus | None,
    active_since: datetime | None,
    idle_since: datetime | None,
) -> SessionFilter:
    if status not in (None, "open", "closed"):
        raise InvalidInput("The status of a session is 'open' or 'closed'.")
    for what, name in (("owner", owner), ("tenant", tenant)):
        if name is not None:
            check_name(what, name)
    for moment in (active_since, idle_since):
        if moment is not None and moment.tzinfo is None:
            raise InvalidInput("A moment needs a time zone, such as datetime.now(timezone.utc).")
    return SessionFilter(owner, tenant, status, active_since, idle_since)


def _not_found() -> SessionNotFound:
    return SessionNotFound("There is no such session: it was never opened, has expired, or was deleted.")


def _found(session: Session | None) -> Session:
    if session is None:
        raise _not_found()
    return session
