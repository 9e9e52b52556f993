"""What is looked at on both dialects: the clock, and whether anybody removes what has expired."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa import verdicts
from mcp_persist_sa.oversight import Finding
from mcp_persist_sa.schema import sessions
from mcp_persist_sa.sqltypes import before, now

_here = sessions.c.namespace == sa.bindparam("in_namespace", type_=sa.Text())
_TIMES = sa.select(now().label("now"), sa.select(sa.func.max(sessions.c.created_at)).where(_here).label("newest"))
_LATE = sa.select(sa.func.count()).where(_here, sessions.c.expires_at <= before(now(), "overdue"))


def times(connection: sa.Connection, common: Mapping[str, Any]) -> Finding:
    """Compare the database's clock with ours, and with what was written."""
    began = datetime.now(timezone.utc)
    theirs, newest = connection.execute(_TIMES, common).one()
    skew = abs(theirs - (began + (datetime.now(timezone.utc) - began) / 2))
    return verdicts.clock(theirs, newest, skew)


def overdue(connection: sa.Connection, common: Mapping[str, Any]) -> Finding:
    """Find out whether what has expired is removed."""
    return verdicts.housekeeping(connection.execute(_LATE, {**common, "overdue": verdicts.OVERDUE}).scalar_one())
