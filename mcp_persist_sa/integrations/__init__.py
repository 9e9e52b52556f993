"""Servers of the SDK on the store."""

from mcp_persist_sa.integrations.event_store import EventStore
from mcp_persist_sa.integrations.layer import DurableSessions
from mcp_persist_sa.integrations.persisting import persist
from mcp_persist_sa.integrations.state import session_id, session_state

__all__ = ["DurableSessions", "EventStore", "persist", "session_id", "session_state"]
