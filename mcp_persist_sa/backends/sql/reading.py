"""What every query of events has in common: its parameters, and what may not be served."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from mcp_persist_sa.schema import events, sessions, streams
from mcp_persist_sa.sqltypes import before, now

SESSION = sa.bindparam("for_session", type_=sa.Text())
STREAM = sa.bindparam("for_stream", type_=sa.Text())
LIMIT = sa.bindparam("limit", type_=sa.Integer())
of_stream = (events.c.session_key == SESSION) & (events.c.stream_key == STREAM)
this_stream = (streams.c.session_key == SESSION) & (streams.c.stream_key == STREAM)
is_expired = sa.func.coalesce(events.c.created_at <= before(now(), "event_ttl"), sa.false())
session_over = sa.exists().where(sessions.c.session_key == SESSION, sessions.c.expires_at <= now())

session_recorded = sa.exists().where(sessions.c.session_key == SESSION)
session_closed = sa.exists().where(sessions.c.session_key == SESSION, sessions.c.closed_at.is_not(None))


class Reading(NamedTuple):
    """What is the same for every row that a store reads."""

    event_ttl: timedelta | None
    at: datetime | None

    def values(self, **more: Any) -> dict[str, Any]:
        """The parameters of a statement."""
        return {"event_ttl": self.event_ttl, "now": self.at, **more}
