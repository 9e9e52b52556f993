"""Steps that record sessions, use them, list them and end them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import rule

from mcp_persist_sa import Purged, Session, SessionNotFound
from mcp_persist_sa.models import SessionStatus
from tests.stateful import strategies as given
from tests.stateful.base import WHERE, At, Base
from tests.stateful.checks import check_session
from tests.stateful.history import Refusal, Span
from tests.stateful.model import Holding

_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "owner": st.none() | given.NAMES,
    "tenant": st.none() | given.NAMES,
    "protocol_version": st.sampled_from([None, "2025-06-18", "2025-11-25", ""]),
    "client_info": given.JSON_VALUES,
    "handshake": given.JSON_VALUES,
    "metadata": st.none() | st.dictionaries(given.KEYS, given.JSON_VALUES, max_size=2),
}
FIELDS = st.fixed_dictionaries({}, optional=_FIELDS)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "owner": given.NAMES,
        "tenant": given.NAMES,
        "status": st.sampled_from(["open", "closed"]),
        "active_since": st.sampled_from([5, 50, 500]),
        "idle_since": st.sampled_from([5, 50, 500]),
    },
)
_A_LITTLE = timedelta(milliseconds=1)
_AN_HOUR = timedelta(hours=1)


class Recording(Base):
    """Whoever records sessions."""

    @rule(where=WHERE, session=given.SESSIONS, fields=FIELDS)
    def create(self, where: int, session: str, fields: dict[str, Any]) -> None:
        self._create(self.at(where), session, fields)

    @rule(target=given.FRESH, where=WHERE, fields=FIELDS)
    def create_fresh(self, where: int, fields: dict[str, Any]) -> str:
        return self._create(self.at(where), None, fields) or "refused"

    def _create(self, place: At, session_id: str | None, fields: dict[str, Any]) -> str:
        made = list[str]()

        def check(session: Session, _: object) -> None:
            if session_id is None:
                assert UUID(session.session_id).version == 7
                assert session.session_id not in place.space.holdings
            assert session.session_id == (session_id or session.session_id)
            assert self.span.has(session.created_at)
            assert session.closed_at is None
            holding = place.space[session.session_id]
            self._renew(holding, session)
            self._check_use(holding, session, _written(fields))
            made.append(session.session_id)

        work = place.store.sessions.create(session_id, **fields)
        self.compare(lambda: place.space.check_new(session_id), work, check)
        return made[0] if made else ""

    def _renew(self, holding: Holding, session: Session) -> None:
        """What an expired session has left is not the new one's; what an unrecorded one has is."""
        if holding.over:
            holding.wipe()
        holding.settle_state()
        defaults: dict[str, Any] = dict.fromkeys(_FIELDS)
        holding.record = replace(session, **{**defaults, "metadata": {}})

    def _check_use(self, holding: Holding, session: Session, fields: dict[str, Any]) -> None:
        """Compare a session that was used now, and note it."""
        assert holding.record is not None
        self._check_expiry(session, self.span)
        assert self.span.has(session.last_seen_at)
        times = {"last_seen_at": session.last_seen_at, "expires_at": session.expires_at}
        expected = replace(holding.record, **fields, **times)
        check_session(session, expected)
        holding.record = expected

    def _check_expiry(self, session: Session, span: Span) -> None:
        """A session lives as long as was promised since its last use, and not much longer."""
        ttl = self.rules_kept.session_ttl
        if ttl is None:
            assert session.closed_at is not None or session.expires_at is None
        else:
            assert session.expires_at is not None
            assert span.first + ttl <= session.expires_at <= span.last + ttl * 1.05

    @rule(where=WHERE, session=given.SESSIONS | given.FRESH)
    def get(self, where: int, session: str) -> None:
        place = self.at(where)
        holding = place.space[session]
        self.compare(lambda: holding.alive, place.store.sessions.get(session), check_session)

    @rule(where=WHERE, session=given.SESSIONS, fields=FIELDS)
    def update(self, where: int, session: str, fields: dict[str, Any]) -> None:
        place = self.at(where)
        holding = place.space[session]

        def check(record: Session, _: object) -> None:
            self._check_use(holding, record, _written(fields))

        self.compare(lambda: holding.open, place.store.sessions.update(session, **fields), check)

    @rule(where=WHERE, session=given.SESSIONS)
    def touch(self, where: int, session: str) -> None:
        """Most uses write nothing, so that a node may not notice at once that a session has ended."""
        place = self.at(where)
        holding = place.space[session]
        try:
            before = holding.open
        except Refusal as refusal:
            if self.attempt(place.store.sessions.touch(session)) is None:
                assert self._was_touched(holding, place.node)
            else:
                self.refused(place.store.sessions.touch(session), *refusal.kinds)
                holding.touched.pop(place.node, None)
            return
        assert self.attempt(place.store.sessions.touch(session)) is None
        used, ttl = self.span.first, self.rules_kept.session_ttl
        after = self.run(place.store.sessions.get(session))
        if after.last_seen_at != before.last_seen_at:
            holding.touched[place.node] = used
        assert used - after.last_seen_at <= self._interval
        if ttl is not None:
            assert after.expires_at is not None
            assert used + ttl - _A_LITTLE <= after.expires_at <= self.span.last + ttl * 1.05
        holding.record = replace(before, last_seen_at=after.last_seen_at, expires_at=after.expires_at)
        check_session(after, holding.record)

    @property
    def _interval(self) -> timedelta:
        """How old a use may be that was not written down."""
        ttl = self.rules_kept.session_ttl
        return _AN_HOUR if ttl is None else ttl / 20

    def _was_touched(self, holding: Holding, node: int) -> bool:
        return node in holding.touched and self.clock() - holding.touched[node] <= self._interval

    # Listing

    @rule(where=WHERE, filters=FILTERS, limit=st.sampled_from([100, 1, 2]))
    def list_sessions(self, where: int, filters: dict[str, Any], limit: int) -> None:
        place = self.at(where)
        filters = self._moments(filters)
        expected = [session for session in place.space.alive() if _matches(session, **filters)]
        found = self.run(self._listed(place, filters, limit))
        assert len(found) == len(expected)
        for mine, other in zip(found, expected, strict=True):
            check_session(mine, other)
        assert self.run(place.store.sessions.count(**filters)) == len(expected)

    def _moments(self, filters: dict[str, Any]) -> dict[str, Any]:
        now = self.clock()
        return {
            name: now - timedelta(seconds=value) if name.endswith("_since") else value
            for name, value in filters.items()
        }

    async def _listed(self, place: At, filters: dict[str, Any], limit: int) -> list[Session]:
        page = await place.store.sessions.list(**filters, limit=limit)
        found = [*page.sessions]
        while page.next is not None:
            assert len(page.sessions) == limit
            page = await place.store.sessions.list(**filters, limit=limit, after=page.next)
            found += page.sessions
        assert found == [session async for session in place.store.sessions.all(**filters, limit=limit)]
        return found

    # Ends

    @rule(where=WHERE, session=given.SESSIONS)
    def close(self, where: int, session: str) -> None:
        place = self.at(where)
        holding = place.space[session]
        holding.touched.pop(place.node, None)
        try:
            before = holding.open
        except Refusal:
            assert self.run(place.store.sessions.close(session)) is False
            return
        assert self.attempt(place.store.sessions.close(session)) is True
        span, after = self.span, self.run(place.store.sessions.get(session))
        assert after.closed_at is not None
        assert span.has(after.closed_at)
        self._check_expiry(after, span)
        holding.record = replace(before, closed_at=after.closed_at, expires_at=after.expires_at)
        check_session(after, holding.record)

    @rule(where=WHERE, session=given.SESSIONS | given.FRESH)
    def delete(self, where: int, session: str) -> None:
        place = self.at(where)
        removed = self.run(place.store.sessions.delete(session))
        self.check_removed(removed, place.space[session].wipe())
        self.refused(place.store.sessions.get(session), SessionNotFound)

    @rule(where=WHERE, owner=given.NAMES)
    def delete_owner(self, where: int, owner: str) -> None:
        place = self.at(where)
        theirs = [
            session_id
            for session_id, holding in place.space.holdings.items()
            if holding.record is not None and holding.record.owner == owner
        ]
        removed: Purged = self.run(place.store.sessions.delete_owner(owner))
        self.check_removed(removed, *(place.space[session_id].wipe() for session_id in theirs))


def _written(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: {} if name == "metadata" and value is None else value for name, value in fields.items()}


def _matches(
    session: Session,
    owner: str | None = None,
    tenant: str | None = None,
    status: SessionStatus | None = None,
    active_since: Any = None,
    idle_since: Any = None,
) -> bool:
    return (
        owner in (None, session.owner)
        and tenant in (None, session.tenant)
        and status in (None, session.status)
        and (active_since is None or session.last_seen_at >= active_since)
        and (idle_since is None or session.last_seen_at < idle_since)
    )
