"""How sessions are recorded, found and ended."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mcp_persist_sa.identity import PagePlace
from mcp_persist_sa.models import Session, SessionPage
from mcp_persist_sa.protocols import SessionFilter
from mcp_persist_sa.refusals import session_exists, session_limit_reached
from mcp_persist_sa.schema import sessions
from mcp_persist_sa.sqltypes import Timestamp, after, now

_KEY = sa.bindparam("for_session", type_=sa.Text())
_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
not_expired = sa.or_(sessions.c.expires_at.is_(None), sessions.c.expires_at > now())
is_open = sa.and_(not_expired, sessions.c.closed_at.is_(None))

_KEYS = sa.bindparam("for_sessions", type_=sa.Text(), expanding=True)
_OPEN_AMONG = sa.select(sessions.c.session_key).where(sessions.c.session_key.in_(_KEYS), is_open)
_GET = sa.select(sessions).where(sessions.c.session_key == _KEY, not_expired)

_USED = {"last_seen_at": now(), "expires_at": after(now(), "session_ttl")}
_TOUCH = sa.update(sessions).where(sessions.c.session_key == _KEY, is_open).values(_USED)
_CLOSE = (
    sa.update(sessions)
    .where(sessions.c.session_key == _KEY, is_open)
    .values(closed_at=now(), expires_at=after(now(), "closed_ttl"))
)
_COUNT_OPEN = sa.select(sa.func.count()).where(sessions.c.namespace == _NAMESPACE, is_open)


def create(
    connection: sa.Connection, values: Mapping[str, Any], max_sessions: int | None, common: Mapping[str, Any]
) -> Session:
    """Record a session; with a limit, one at a time, so that no two take the last place."""
    if max_sessions is not None:
        _lock(connection, f"mcp_sessions {values['namespace']}")
        count = connection.execute(_COUNT_OPEN, {**common, "in_namespace": values["namespace"]}).scalar_one()
        if count >= max_sessions:
            raise session_limit_reached(count)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = insert(sessions).values(**values, **_USED, created_at=now()).on_conflict_do_nothing()
    row = connection.execute(fresh.returning(*sessions.c), common).first()
    if row is None:
        raise session_exists()
    return session_of(row)


def _lock(connection: sa.Connection, name: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def get(connection: sa.Connection, session_key: str, common: Mapping[str, Any]) -> Session | None:
    """A session that has not expired."""
    row = connection.execute(_GET, {"for_session": session_key, **common}).first()
    return None if row is None else session_of(row)


def open_among(connection: sa.Connection, session_keys: Set[str], common: Mapping[str, Any]) -> set[str]:
    """Those sessions that are open."""
    return {*connection.execute(_OPEN_AMONG, {"for_sessions": [*session_keys], **common}).scalars()}


def update(
    connection: sa.Connection,
    session_key: str,
    values: Mapping[str, Any],
    expected: Mapping[str, Any],
    common: Mapping[str, Any],
) -> Session | None:
    """Write values to an open session that has the expected ones, and use it."""
    same = [
        sessions.c[name].is_not_distinct_from(sa.literal(value, sessions.c[name].type))
        for name, value in expected.items()
    ]
    statement = sa.update(sessions).where(sessions.c.session_key == _KEY, is_open, *same).values(**values, **_USED)
    row = connection.execute(statement.returning(*sessions.c), {"for_session": session_key, **common}).first()
    return None if row is None else session_of(row)


def touch(connection: sa.Connection, session_key: str, common: Mapping[str, Any]) -> bool:
    """Move the expiry of an open session."""
    return connection.execute(_TOUCH, {"for_session": session_key, **common}).rowcount > 0


def close(connection: sa.Connection, session_key: str, closed_ttl: timedelta, common: Mapping[str, Any]) -> bool:
    """End an open session, and remember for a while that it was."""
    values = {"for_session": session_key, "closed_ttl": closed_ttl, **common}
    return connection.execute(_CLOSE, values).rowcount > 0


def _matching(which: SessionFilter) -> list[sa.ColumnElement[bool]]:
    where: list[sa.ColumnElement[bool]] = [sessions.c.namespace == _NAMESPACE]
    if not which.also_expired:
        where.append(not_expired)
    if which.owner is not None:
        where.append(sessions.c.owner == which.owner)
    if which.tenant is not None:
        where.append(sessions.c.tenant == which.tenant)
    if which.status is not None:
        where.append(sessions.c.closed_at.is_(None) if which.status == "open" else sessions.c.closed_at.is_not(None))
    if which.active_since is not None:
        where.append(sessions.c.last_seen_at >= which.active_since)
    if which.idle_since is not None:
        where.append(sessions.c.last_seen_at < which.idle_since)
    return where


def count(connection: sa.Connection, which: SessionFilter, common: Mapping[str, Any]) -> int:
    """How many match."""
    statement = sa.select(sa.func.count()).select_from(sessions).where(*_matching(which))
    return connection.execute(statement, common).scalar_one()


class SessionSlice(NamedTuple):
    """Which part of a listing is wanted: what follows the `next` of another page, how many, and in which order."""

    after: str | None
    limit: int
    newest_first: bool


def listing(
    connection: sa.Connection, which: SessionFilter, common: Mapping[str, Any], part: SessionSlice
) -> SessionPage:
    """Those that match, in the order in which they were opened."""
    statement = _behind(sa.select(sessions).where(*_matching(which)), part)
    rows = connection.execute(statement.order_by(*_ORDER[part.newest_first]).limit(part.limit), common).all()
    last = rows[-1] if len(rows) == part.limit else None
    next_page = None if last is None else str(PagePlace(last.created_at, last.session_key))
    return SessionPage(tuple(session_of(row) for row in rows), next_page)


_PLACE = (sessions.c.created_at, sessions.c.session_key)
_ORDER = {False: _PLACE, True: tuple(column.desc() for column in _PLACE)}


def _behind(statement: Any, part: SessionSlice) -> Any:
    """Only what follows the page before."""
    if part.after is None:
        return statement
    moment, key = PagePlace.parse(part.after)
    here, place = sa.tuple_(*_PLACE), sa.tuple_(sa.literal(moment, Timestamp()), sa.literal(key, sa.Text()))
    return statement.where(here < place if part.newest_first else here > place)


def session_of(row: Any) -> Session:
    """The record of a row."""
    return Session(
        session_id=row.session_id,
        owner=row.owner,
        tenant=row.tenant,
        protocol_version=row.protocol_version,
        client_info=row.client_info,
        handshake=row.handshake,
        metadata=row.metadata,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        expires_at=row.expires_at,
        closed_at=row.closed_at,
    )
