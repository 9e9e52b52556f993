"""The trail of what was removed, written in the transaction that removes it.

Whatever removes takes a `Trail`, so that nothing is removed past it. Whether anybody wants the trail is asked in the
same transaction, of the tables and not of an option, so that no node and no command can leave it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.rows import TEXT, Rows
from mcp_persist_sa.identity import PagePlace, new_entry_id
from mcp_persist_sa.models import Purged
from mcp_persist_sa.oversight import AuditEntry, AuditPage, Reason
from mcp_persist_sa.schema import audit, policies, sessions
from mcp_persist_sa.sqltypes import Timestamp, after, now

_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
KEYS = Rows("audited", (("audited_session", TEXT),))

Removed = Mapping[str, Purged]
"""What was removed, by session key."""


def _watched(dialect: str) -> Any:
    """Of some sessions those whose removal is to be written down: their tenants, and for how long that is kept.

    Where there is no policy at all, nothing is looked for.
    """
    keys = KEYS.relation(dialect)
    own, other, anybody = policies.alias("own"), policies.alias("other"), policies.alias("anybody")
    own_tenant = (own.c.namespace == _NAMESPACE) & (own.c.tenant == sessions.c.tenant)
    audit_ttl = sa.func.coalesce(own.c.audit_ttl, other.c.audit_ttl, type_=policies.c.audit_ttl.type)
    return (
        sa.select(keys.c.audited_session, sessions.c.tenant, audit_ttl.label("audit_ttl"))
        .select_from(
            keys.outerjoin(sessions, sessions.c.session_key == keys.c.audited_session)
            .outerjoin(own, own_tenant)
            .outerjoin(other, (other.c.namespace == _NAMESPACE) & (other.c.tenant == ""))
        )
        .where(
            sa.exists(sa.select(anybody.c.tenant).where(anybody.c.namespace == _NAMESPACE)),
            audit_ttl.is_not(sa.null()),
        )
    )


WATCHED = {dialect: _watched(dialect) for dialect in ("sqlite", "postgresql")}


class _Whose(NamedTuple):
    """Of whom something was removed, and for how long that is to be known."""

    tenant: str | None
    audit_ttl: timedelta


class Trail(NamedTuple):
    """Why and by whom something is removed.

    Attributes:
        reason: Why.
        by: By whom.
        common: What many statements share.
    """

    reason: Reason
    by: str
    common: Mapping[str, Any]

    def watched(self, connection: sa.Connection, session_keys: Collection[str]) -> dict[str, _Whose]:
        """Find out of which sessions there is a trail, which cannot be done after a session's record was removed."""
        if not session_keys:
            return {}
        dialect = connection.dialect.name
        values = KEYS.values(dialect, [(key,) for key in session_keys])
        place = {"in_namespace": self.common["in_namespace"]}
        rows = connection.execute(WATCHED[dialect], {**place, **values})
        return {row.audited_session: _Whose(row.tenant, row.audit_ttl) for row in rows}

    def write(self, connection: sa.Connection, watched: Mapping[str, _Whose], removed: Removed) -> None:
        """Write down what was removed of those sessions, an entry a tenant."""
        totals: dict[_Whose, Purged] = {}
        for key, counts in removed.items():
            if key in watched and any(counts):
                totals[watched[key]] = totals.get(watched[key], Purged()).plus(counts)
        for whose, counts in totals.items():
            entry = {
                "entry_id": new_entry_id(),
                "namespace": self.common["in_namespace"],
                "tenant": whose.tenant,
                "reason": self.reason,
                "removed_by": self.by,
                "created_at": now(),
                "expires_at": after(now(), "audit_ttl"),
                **counts._asdict(),
            }
            values = {"now": self.common["now"], "audit_ttl": whose.audit_ttl}
            connection.execute(sa.insert(audit).values(entry), values)

    def note(self, connection: sa.Connection, removed: Removed) -> None:
        """Write down what was removed of sessions whose records are where they were."""
        self.write(connection, self.watched(connection, removed.keys()), removed)


def by_session(rows: Any, kind: str) -> Removed:
    """What was removed, from the session keys of the rows that were."""
    counts: Counter[str] = Counter(rows.scalars())
    return {key: Purged(**{kind: count}) for key, count in counts.items()}


def total(removed: Removed) -> Purged:
    """All together."""
    sums = Purged()
    for counts in removed.values():
        sums = sums.plus(counts)
    return sums


_some_entries = (
    sa.select(audit.c.entry_id).where(audit.c.namespace == _NAMESPACE, audit.c.expires_at <= now()).limit(_LIMIT)
)
FORGET = sa.delete(audit).where(audit.c.entry_id.in_(_some_entries))


def forget(connection: sa.Connection, common: Mapping[str, Any]) -> int:
    """Remove some entries that need not be known any more."""
    return connection.execute(FORGET, common).rowcount


_PLACE = (audit.c.created_at, audit.c.entry_id)


def newest(tenant: str | None, after_page: str | None) -> Any:
    """The statement of a page, the newest first."""
    statement = sa.select(audit).where(audit.c.namespace == _NAMESPACE, audit.c.expires_at > now())
    if tenant is not None:
        statement = statement.where(audit.c.tenant == tenant)
    if after_page is not None:
        moment, key = PagePlace.parse(after_page)
        statement = statement.where(sa.tuple_(*_PLACE) < sa.tuple_(sa.literal(moment, Timestamp()), sa.literal(key)))
    return statement.order_by(*(column.desc() for column in _PLACE)).limit(_LIMIT)


def page(
    connection: sa.Connection, common: Mapping[str, Any], tenant: str | None, *, after_page: str | None, limit: int
) -> AuditPage:
    """What was removed, the newest first."""
    rows = connection.execute(newest(tenant, after_page), {**common, "limit": limit}).all()
    last = rows[-1] if len(rows) == limit else None
    following = None if last is None else str(PagePlace(last.created_at, last.entry_id))
    return AuditPage(tuple(_entry(row) for row in rows), following)


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(
        at=row.created_at,
        tenant=row.tenant,
        reason=row.reason,
        by=row.removed_by,
        sessions=row.sessions,
        streams=row.streams,
        events=row.events,
        state=row.state,
    )
