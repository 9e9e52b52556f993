"""What is found alike in every kind of database: its clock, and whether anybody removes what has expired."""

from __future__ import annotations

from datetime import datetime, timedelta

from mcp_persist_sa.oversight import Finding

OVERDUE = timedelta(hours=1)
"""How long after its time a session should be gone."""

_SKEW = timedelta(seconds=2)


def clock(now: datetime, newest: datetime | None, skew: timedelta) -> Finding:
    """Judge the database's clock.

    Args:
        now: What it shows.
        newest: When the newest session was opened.
        skew: How far it is from this machine's.
    """
    if newest is not None and newest > now + _SKEW:
        found = f"sessions were opened {newest - now} after the present time of the database"
        return Finding("clock", "wrong", found, "Set the clock by NTP: what expires, expires too late until then.")
    if skew > _SKEW:
        found = f"the database's differs from this machine's by {skew.total_seconds():.1f} s"
        return Finding("clock", "note", found, "The store goes by the database's. Set both by NTP, to compare logs.")
    return Finding("clock", "ok", f"within {_SKEW.total_seconds():g} s of this machine's")


def housekeeping(count: int) -> Finding:
    """Judge whether what has expired is removed, by how many sessions are overdue."""
    if not count:
        return Finding("housekeeping", "ok", "nothing is overdue")
    found = f"{count:,} sessions expired more than an hour ago and are still there"
    return Finding("housekeeping", "wrong", found, "Serve with `persist`, or run `mcp-persist-sa purge` every hour.")
