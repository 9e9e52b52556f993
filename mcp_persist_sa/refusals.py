"""What a backend refuses, in the same words on every database."""

from __future__ import annotations

from mcp_persist_sa.errors import (
    HistoryLost,
    OutcomeUnknown,
    SessionExists,
    SessionLimitReached,
    SessionNotFound,
    StreamClaimed,
)


def history_lost() -> HistoryLost:
    """The answer to a place behind which events are gone."""
    return HistoryLost("Events after this one are gone: expired, purged or rolled back. Read the present state anew.")


def session_expired() -> SessionNotFound:
    """The answer to whoever reads from a session that has expired."""
    return SessionNotFound("The session has expired. Open a new one.")


def session_exists() -> SessionExists:
    """The answer to whoever opens a session under an id that is taken."""
    return SessionExists("There is a session with this id already. Use `get`, or another id.")


def session_limit_reached(count: int) -> SessionLimitReached:
    """The answer to whoever opens one session too many."""
    return SessionLimitReached(f"There are {count} open sessions already. Close some, or raise max_sessions.")


def stream_claimed() -> StreamClaimed:
    """The answer to whoever appends to a stream that has a writer of its own."""
    return StreamClaimed("The stream belongs to a writer of its own. Give it another id.")


def claim_refused() -> StreamClaimed:
    """The answer to whoever claims a stream that is not free."""
    return StreamClaimed(
        "The stream is open in other hands, or was deleted. Wait until it ends, or give the stream another id."
    )


def events_unknown() -> OutcomeUnknown:
    """The answer to whoever sends again events of which nothing is to be found."""
    return OutcomeUnknown("The reply was lost, and the events are not there (any more).")


def value_unknown() -> OutcomeUnknown:
    """The answer to whoever sends again a value that others may have replaced."""
    return OutcomeUnknown("The reply was lost, and others have written since: the value was set before, or not.")
