"""The leases of nodes, and what becomes of the streams of one that is dead."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.arrivals import insert_for
from mcp_persist_sa.backends.sql.reading import SESSION, of_stream, this_stream
from mcp_persist_sa.identity import new_nonce
from mcp_persist_sa.schema import events, nodes, sessions, streams
from mcp_persist_sa.sqltypes import after, before, now

GRACE = timedelta(seconds=1)
"""Between taking a stream from its node and ending it, so that a statement under way then is over."""

_NODE = sa.bindparam("of_node", type_=sa.Text())


def is_alive(node_id: sa.ColumnElement[str | None]) -> sa.ColumnElement[bool]:
    """Whether the lease of a node has not run out."""
    return sa.exists().where(nodes.c.node_id == node_id, nodes.c.expires_at > now())


abandoned = sa.and_(streams.c.finished.is_(sa.false()), streams.c.will.is_not(sa.null()), ~is_alive(streams.c.node_id))

_TAKE = (
    sa.update(streams)
    .where(this_stream, abandoned, streams.c.node_id.is_not(sa.null()))
    .values(node_id=sa.null(), updated_at=now())
)
_TAKEN = (
    sa.select(streams.c.will, streams.c.last_sequence)
    .where(this_stream, abandoned, streams.c.node_id.is_(sa.null()), streams.c.updated_at <= before(now(), "grace"))
    .with_for_update()
)
_LAST = sa.select(sa.func.max(events.c.sequence)).where(of_stream)
_FINISH = (
    sa.update(streams)
    .where(this_stream)
    .values(finished=sa.true(), last_sequence=sa.bindparam("last"), updated_at=now())
)


_NOBODY = sa.or_(sessions.c.listener.is_(None), sessions.c.listener == _NODE, ~is_alive(sessions.c.listener))
_LISTEN = (
    sa.update(sessions)
    .where(sessions.c.session_key == SESSION, sa.or_(sa.bindparam("anew", type_=sa.Boolean()), _NOBODY))
    .values(listener=_NODE)
)
_listens_here = (sessions.c.session_key == SESSION) & (sessions.c.listener == _NODE)
_UNLISTEN = sa.update(sessions).where(_listens_here).values(listener=sa.null())


def listen(connection: sa.Connection, session_key: str, node_id: str, anew: bool, common: Mapping[str, Any]) -> bool:
    """Note at which node a client listens to a session, unless it does at another one that is alive."""
    values = {**common, "for_session": session_key, "of_node": node_id, "anew": anew}
    return connection.execute(_LISTEN, values).rowcount > 0


def unlisten(connection: sa.Connection, session_key: str, node_id: str) -> None:
    """Note that nobody listens at that node any more."""
    connection.execute(_UNLISTEN, {"for_session": session_key, "of_node": node_id})


def renew(connection: sa.Connection, node_id: str, lease: timedelta, common: Mapping[str, Any]) -> None:
    """Write a lease."""
    moments = {"started_at": now(), "expires_at": after(now(), "lease")}
    values = {"node_id": node_id, "namespace": common["in_namespace"], **moments}
    insert = insert_for(connection.dialect.name)(nodes).values(values)
    renewed = insert.on_conflict_do_update(
        index_elements=[nodes.c.node_id], set_={"expires_at": insert.excluded.expires_at}
    )
    connection.execute(renewed, {**common, "lease": lease})


_here = nodes.c.namespace == sa.bindparam("in_namespace", type_=sa.Text())
_is_old = nodes.c.expires_at <= before(now(), "forget_after")
_KNOWN = sa.select(nodes.c.node_id, nodes.c.expires_at > now()).where(_here)
_OLD = sa.select(nodes.c.node_id).where(_here, _is_old)
_REMOVE = sa.delete(nodes).where(nodes.c.node_id == _NODE)


def known(connection: sa.Connection, common: Mapping[str, Any]) -> dict[str, bool]:
    """The nodes of the namespace, and of each whether its lease has not run out."""
    return {node_id: bool(alive) for node_id, alive in connection.execute(_KNOWN, common)}


def old(connection: sa.Connection, common: Mapping[str, Any]) -> list[str]:
    """The nodes whose lease ran out long ago."""
    return list(connection.execute(_OLD, common).scalars())


def remove(connection: sa.Connection, node_id: str, common: Mapping[str, Any], *, if_old: bool) -> bool:
    """Remove a lease; not, if told so, one that was renewed."""
    statement = _REMOVE.where(_is_old) if if_old else _REMOVE
    return connection.execute(statement, {**common, "of_node": node_id}).rowcount > 0


def end_abandoned(connection: sa.Connection, session_key: str, stream_key: str, common: Mapping[str, Any]) -> None:
    """Take a stream from a dead node, or, where that was done a while ago, append its will.

    In two steps, because its node may only have been slow: from the first on, nothing of that node's is accepted.
    """
    values = {**common, "for_session": session_key, "for_stream": stream_key, "grace": GRACE}
    if connection.execute(_TAKE, values).rowcount:
        return
    taken = connection.execute(_TAKEN, values).first()
    if taken is None:
        return
    last = max(connection.execute(_LAST, values).scalar() or 0, taken.last_sequence) + 1
    event = {
        "session_key": session_key,
        "stream_key": stream_key,
        "sequence": last,
        "nonce": new_nonce(),
        "final": True,
        "size": len(taken.will.encode()),
        "created_at": now(),
        "message": taken.will,
    }
    connection.execute(sa.insert(events).values(event), values)
    connection.execute(_FINISH, {**values, "last": last})
