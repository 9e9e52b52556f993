"""What is looked at on both dialects: the clock, and whether anybody removes what has expired."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.oversight import Finding
from mcp_persist_sa.schema import sessions
from mcp_persist_sa.sqltypes import before, now

_SKEW = timedelta(seconds=2)
_OVERDUE = timedelta(hours=1)

_here = sessions.c.namespace == sa.bindparam("in_namespace", type_=sa.Text())
_TIMES = sa.select(now().label("now"), sa.select(sa.func.max(sessions.c.created_at)).where(_here).label("newest"))
_LATE = sa.select(sa.func.count()).where(_here, sessions.c.expires_at <= before(now(), "overdue"))


def times(connection: sa.Connection, common: Mapping[str, Any]) -> Finding:
    """Compare the database's clock with ours, and with what was written."""
    began = datetime.now(timezone.utc)
    theirs, newest = connection.execute(_TIMES, common).one()
    skew = abs(theirs - (began + (datetime.now(timezone.utc) - began) / 2))
    if newest is not None and newest > theirs + _SKEW:
        found = f"sessions were opened {newest - theirs} after the present time of the database"
        return Finding("clock", "wrong", found, "Set the clock by NTP: what expires, expires too late until then.")
    if skew > _SKEW:
        found = f"the database's differs from this machine's by {skew.total_seconds():.1f} s"
        return Finding("clock", "note", found, "The store goes by the database's. Set both by NTP, to compare logs.")
    return Finding("clock", "ok", f"within {_SKEW.total_seconds():g} s of this machine's")


def overdue(connection: sa.Connection, common: Mapping[str, Any]) -> Finding:
    """Find out whether what has expired is removed."""
    count = connection.execute(_LATE, {**common, "overdue": _OVERDUE}).scalar_one()
    if not count:
        return Finding("housekeeping", "ok", "nothing is overdue")
    found = f"{count:,} sessions expired more than an hour ago and are still there"
    return Finding("housekeeping", "wrong", found, "Serve with `persist`, or run `mcp-persist-sa purge` every hour.")
