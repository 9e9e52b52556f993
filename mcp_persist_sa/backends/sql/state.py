"""How the state of a session, or of a handle that is none, is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from mcp_persist_sa.models import JSONValue, StateEntry
from mcp_persist_sa.refusals import value_unknown
from mcp_persist_sa.schema import session_state, sessions
from mcp_persist_sa.sqltypes import before, now

_KEY = sa.bindparam("for_session", type_=sa.Text())
_NAME = sa.bindparam("state_key", type_=sa.Text())
_old = sa.func.coalesce(session_state.c.updated_at <= before(now(), "state_ttl"), sa.false())


def _is_over(session_key: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    session = sa.select(sessions.c.session_key).where(sessions.c.session_key == session_key)
    # What a handle had left when a session of that id was opened is not the session's.
    older = session_state.c.updated_at <= before(sessions.c.created_at, "state_ttl")
    return sa.or_(
        sa.exists(session.where(sa.or_(sessions.c.expires_at <= now(), sa.func.coalesce(older, sa.false())))),
        sa.and_(~sa.exists(session), _old),
    )


expired = _is_over(session_state.c.session_key)
"""State that is not served any more: of a session that has expired, or of a handle that is long unused."""

_mine = session_state.c.session_key == _KEY
_one = sa.and_(_mine, session_state.c.key == _NAME)
# Not with `expired`: inside ON CONFLICT its inner SELECT would not mean the row in hand, but look at all the state.
_vacant = sa.or_(session_state.c.value.is_(sa.null()), _is_over(_KEY))
_GET = sa.select(session_state.c.value, session_state.c.version).where(_one, ~_vacant)
_KEYS = sa.select(session_state.c.key).where(_mine, ~_vacant).order_by(session_state.c.key)
_EMPTY = {"value": sa.null(), "version": session_state.c.version + 1, "updated_at": now()}
_DELETE = sa.update(session_state).where(_one, ~_vacant).values(_EMPTY)
_CLEAR = sa.update(session_state).where(_mine, ~_vacant).values(_EMPTY)
_WRITER = sa.select(session_state.c.version, session_state.c.written_by).where(_one)


def get(connection: sa.Connection, session_key: str, key: str, common: Mapping[str, Any]) -> StateEntry | None:
    """One value."""
    row = connection.execute(_GET, {"for_session": session_key, "state_key": key, **common}).first()
    return None if row is None else StateEntry(row.value, row.version)


def put(
    connection: sa.Connection, row: Mapping[str, Any], version: int | None, common: Mapping[str, Any], *, again: bool
) -> int | None:
    """Write a value, if its version is the given one (0: if there is none; None: in any case), and give the new one.

    The row says who wrote it, so that the same call, sent `again` after a lost reply, finds that it succeeded; if
    others may have written over it since, nobody can tell.
    """
    values = {"for_session": row["session_key"], "state_key": row["key"], **common}
    if version:
        statement = (
            sa.update(session_state)
            .where(_one, session_state.c.version == version, ~_vacant)
            .values(value=row["value"], written_by=row["written_by"], version=version + 1, updated_at=now())
        )
    else:
        statement = _upsert(connection.dialect.name, row, where=sa.true() if version is None else _vacant)
    found = connection.execute(statement.returning(session_state.c.version), values).scalar()
    if found is not None:
        return found
    last = connection.execute(_WRITER, values).first()
    if last is not None and last.written_by == row["written_by"]:
        return last.version
    if again and not (last is not None and version and last.version <= version + 1):
        raise value_unknown()
    return None


def _upsert(dialect: str, row: Mapping[str, Any], where: sa.ColumnElement[bool]) -> Any:
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    fresh = insert(session_state).values(**row, version=1, updated_at=now())
    return fresh.on_conflict_do_update(
        index_elements=[session_state.c.session_key, session_state.c.key],
        set_={
            "value": fresh.excluded.value,
            "written_by": fresh.excluded.written_by,
            "updated_at": fresh.excluded.updated_at,
            "version": session_state.c.version + 1,
        },
        where=sa.and_(where, session_state.c.written_by != fresh.excluded.written_by),
    )


def delete(connection: sa.Connection, session_key: str, key: str, common: Mapping[str, Any]) -> bool:
    """Remove one value. Its version stays for a while, so that it is not given again to another value."""
    return connection.execute(_DELETE, {"for_session": session_key, "state_key": key, **common}).rowcount > 0


def clear(connection: sa.Connection, session_key: str, common: Mapping[str, Any]) -> int:
    """Remove all values."""
    return connection.execute(_CLEAR, {"for_session": session_key, **common}).rowcount


def keys(connection: sa.Connection, session_key: str, common: Mapping[str, Any]) -> list[str]:
    """The keys, sorted by code point."""
    return list(connection.execute(_KEYS, {"for_session": session_key, **common}).scalars())


def new_row(namespace: str, session_key: str, key: str, value: JSONValue, written_by: str) -> dict[str, Any]:
    """The row of a value."""
    return {
        "session_key": session_key,
        "key": key,
        "namespace": namespace,
        "value": value,
        "written_by": written_by,
    }
