"""Duties that one process at a time has: whoever holds the lease."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.arrivals import insert_for
from mcp_persist_sa.schema import leases
from mcp_persist_sa.sqltypes import after, now

_mine = sa.and_(
    leases.c.namespace == sa.bindparam("in_namespace", type_=sa.Text()),
    leases.c.duty == sa.bindparam("of_duty", type_=sa.Text()),
    leases.c.holder == sa.bindparam("of_holder", type_=sa.Text()),
)
_EXTEND = sa.update(leases).where(_mine).values(expires_at=after(now(), "lease"))
_RELEASE = sa.delete(leases).where(_mine)


def take(connection: sa.Connection, duty: str, holder: str, lease: timedelta, common: Mapping[str, Any]) -> bool:
    """Take the lease of a duty, unless another one holds it."""
    values = {"namespace": common["in_namespace"], "duty": duty, "holder": holder, "expires_at": after(now(), "lease")}
    insert = insert_for(connection.dialect.name)(leases).values(values)
    free = sa.or_(leases.c.holder == insert.excluded.holder, leases.c.expires_at <= now())
    taken = insert.on_conflict_do_update(
        index_elements=[leases.c.namespace, leases.c.duty],
        set_={"holder": insert.excluded.holder, "expires_at": insert.excluded.expires_at},
        where=free,
    )
    return connection.execute(taken, {**common, "lease": lease}).rowcount > 0


def extend(connection: sa.Connection, duty: str, holder: str, lease: timedelta, common: Mapping[str, Any]) -> bool:
    """Extend the lease of a duty if nobody else has taken it; until the transaction ends, nobody else can."""
    values = {**common, "of_duty": duty, "of_holder": holder, "lease": lease}
    return connection.execute(_EXTEND, values).rowcount > 0


def release(connection: sa.Connection, duty: str, holder: str, common: Mapping[str, Any]) -> None:
    """Give the lease of a duty back."""
    connection.execute(_RELEASE, {**common, "of_duty": duty, "of_holder": holder})
