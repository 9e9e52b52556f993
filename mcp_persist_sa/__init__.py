"""The database of an MCP server: sessions, their state, and resumable event streams."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mcp_persist_sa.engine import configure_sqlite
from mcp_persist_sa.errors import (
    AccessDenied,
    HistoryLost,
    InvalidDSN,
    InvalidInput,
    InvalidOption,
    MissingExtra,
    OutcomeUnknown,
    Overloaded,
    PersistError,
    SchemaAhead,
    SchemaBehind,
    SchemaError,
    SchemaForeign,
    SchemaMissing,
    SessionExists,
    SessionLimitReached,
    SessionNotFound,
    StoreClosed,
    StoreUnavailable,
    StreamClaimed,
    StreamNotFound,
    TooLarge,
    UnknownEvent,
    VersionConflict,
)
from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.models import (
    Event,
    Gap,
    Health,
    NewEvent,
    NotifierHealth,
    Page,
    Purged,
    Session,
    SessionPage,
    StateEntry,
    StreamInfo,
)
from mcp_persist_sa.options import Options
from mcp_persist_sa.schema import not_ours
from mcp_persist_sa.sessions import Sessions
from mcp_persist_sa.state import State
from mcp_persist_sa.store import Store, open_store
from mcp_persist_sa.streams import Receipt, StreamWriter

if TYPE_CHECKING:
    from mcp_persist_sa.integrations import (
        DurableSessions,
        EventStore,
        persist,
        session_id,
        session_state,
    )
    from mcp_persist_sa.subscriptions import SubscriptionBus

__all__ = [
    "AccessDenied",
    "DurableSessions",
    "Event",
    "EventStore",
    "Gap",
    "Health",
    "HistoryLost",
    "InvalidDSN",
    "InvalidInput",
    "InvalidOption",
    "MissingExtra",
    "NewEvent",
    "NotifierHealth",
    "Options",
    "OutcomeUnknown",
    "Overloaded",
    "Page",
    "PersistError",
    "Purged",
    "Receipt",
    "SchemaAhead",
    "SchemaBehind",
    "SchemaError",
    "SchemaForeign",
    "SchemaMissing",
    "Session",
    "SessionExists",
    "SessionLimitReached",
    "SessionNotFound",
    "SessionPage",
    "Sessions",
    "State",
    "StateEntry",
    "Store",
    "StoreClosed",
    "StoreUnavailable",
    "StreamClaimed",
    "StreamInfo",
    "StreamNotFound",
    "StreamWriter",
    "SubscriptionBus",
    "TooLarge",
    "UnknownEvent",
    "VersionConflict",
    "configure_sqlite",
    "not_ours",
    "open_store",
    "persist",
    "session_id",
    "session_state",
    "upgrade",
]

_OF_SERVERS = {"DurableSessions", "EventStore", "persist", "session_id", "session_state"}


def __getattr__(name: str) -> Any:
    """Import what serves servers when it is asked for: the SDK is large, and a migration does not need it."""
    if name in _OF_SERVERS:
        return getattr(import_module("mcp_persist_sa.integrations"), name)
    if name == "SubscriptionBus":
        return import_module("mcp_persist_sa.subscriptions").SubscriptionBus
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
