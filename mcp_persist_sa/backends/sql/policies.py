"""The policies of tenants, and what of their sessions is over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.arrivals import insert_for
from mcp_persist_sa.backends.sql.sessions import not_expired
from mcp_persist_sa.oversight import Policy
from mcp_persist_sa.schema import events, policies, sessions
from mcp_persist_sa.sqltypes import before, now

_NAMESPACE = sa.bindparam("in_namespace", type_=sa.Text())
_TENANT = sa.bindparam("of_tenant", type_=sa.Text())
_LIMIT = sa.bindparam("limit", type_=sa.Integer())
_SAYS = ("session_ttl", "event_ttl", "max_events", "audit_ttl")

_ALL = sa.select(policies).where(policies.c.namespace == _NAMESPACE).order_by(policies.c.tenant)
_one = sa.and_(policies.c.namespace == _NAMESPACE, policies.c.tenant == _TENANT)


def _place(namespace: str, tenant: str | None) -> dict[str, str]:
    return {"in_namespace": namespace, "of_tenant": tenant or ""}


def put(connection: sa.Connection, namespace: str, policy: Policy) -> None:
    """Write a policy over that which the tenant has."""
    says = {name: getattr(policy, name) for name in _SAYS}
    insert = insert_for(connection.dialect.name)(policies)
    fresh = insert.values(namespace=namespace, tenant=policy.tenant or "", **says)
    replaced = {name: fresh.excluded[name] for name in _SAYS}
    connection.execute(fresh.on_conflict_do_update(index_elements=["namespace", "tenant"], set_=replaced))


def remove(connection: sa.Connection, namespace: str, tenant: str | None) -> bool:
    """Remove the policy of a tenant."""
    return connection.execute(sa.delete(policies).where(_one), _place(namespace, tenant)).rowcount > 0


def get(connection: sa.Connection, namespace: str, tenant: str | None) -> Policy | None:
    """The policy of a tenant."""
    row = connection.execute(sa.select(policies).where(_one), _place(namespace, tenant)).first()
    return None if row is None else _policy(row)


def everyone(connection: sa.Connection, namespace: str) -> list[Policy]:
    """All policies."""
    return [_policy(row) for row in connection.execute(_ALL, {"in_namespace": namespace})]


def _policy(row: Any) -> Policy:
    return Policy(tenant=row.tenant or None, **{name: getattr(row, name) for name in _SAYS})


# Sessions that have not been used for longer than their policy says. They are made to expire, so that from one moment
# on nobody can use them again, and are then removed as all that have expired.

_of_tenant = sa.and_(sessions.c.namespace == _NAMESPACE, sessions.c.tenant == _TENANT)
_idle = sa.and_(_of_tenant, not_expired, sessions.c.last_seen_at <= before(now(), "idle_for"))
IDLE = sa.select(sessions.c.session_key).where(_idle).order_by(sessions.c.last_seen_at).limit(_LIMIT)
# Of one that is used meanwhile, Postgres looks again only at what is said of the row itself.
_EXPIRE = sa.update(sessions).where(sessions.c.session_key.in_(IDLE.correlate(None)), _idle).values(expires_at=now())


def expire(connection: sa.Connection, values: Mapping[str, Any]) -> int:
    """Make some sessions of a tenant expire that have been idle for too long, and say how many."""
    return connection.execute(_EXPIRE, values).rowcount


SESSIONS = (
    sa.select(sessions.c.session_key)
    .where(_of_tenant, sessions.c.session_key > sa.bindparam("after", type_=sa.Text()))
    .order_by(sessions.c.session_key)
    .limit(_LIMIT)
)


def session_keys(connection: sa.Connection, values: Mapping[str, Any]) -> list[str]:
    """Sessions of a tenant, in the order of their keys."""
    return list(connection.execute(SESSIONS, values).scalars())


# The same, of all tenants, for whoever counts.

_same = (policies.c.namespace == sessions.c.namespace) & (policies.c.tenant == sessions.c.tenant)
_used_before = before(before(now(), "touch_interval"), policies.c.session_ttl)
all_idle = (
    sa.select(sessions.c.session_key)
    .join(policies, _same)
    .where(policies.c.namespace == _NAMESPACE, sessions.c.last_seen_at <= _used_before)
)
event_is_old = sa.exists(
    sa.select(sessions.c.session_key)
    .join(policies, _same)
    .where(
        sessions.c.session_key == events.c.session_key,
        events.c.created_at <= before(now(), policies.c.event_ttl),
    )
    .correlate(events)
)
