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
    RecordConflict,
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
    Unsupported,
    VersionConflict,
)
from mcp_persist_sa.metrics import LoggingMetrics, Metrics
from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.models import (
    Event,
    Gap,
    Health,
    NewEvent,
    NotifierHealth,
    Page,
    PoolHealth,
    Purged,
    Session,
    SessionPage,
    StateEntry,
    StreamInfo,
)
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import AuditEntry, AuditPage, Finding, Holding, Policy, Rate, Stats
from mcp_persist_sa.policies import Policies
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
    from mcp_persist_sa.telemetry import OpenTelemetry

__all__ = [
    "AccessDenied",
    "AuditEntry",
    "AuditPage",
    "DurableSessions",
    "Event",
    "EventStore",
    "Finding",
    "Gap",
    "Health",
    "HistoryLost",
    "Holding",
    "InvalidDSN",
    "InvalidInput",
    "InvalidOption",
    "LoggingMetrics",
    "Metrics",
    "MissingExtra",
    "NewEvent",
    "NotifierHealth",
    "OpenTelemetry",
    "Options",
    "OutcomeUnknown",
    "Overloaded",
    "Page",
    "PersistError",
    "Policies",
    "Policy",
    "PoolHealth",
    "Purged",
    "Rate",
    "Receipt",
    "RecordConflict",
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
    "Stats",
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
    "Unsupported",
    "VersionConflict",
    "configure_sqlite",
    "not_ours",
    "open_store",
    "persist",
    "session_id",
    "session_state",
    "upgrade",
]

_APART = {
    "DurableSessions": "integrations",
    "EventStore": "integrations",
    "OpenTelemetry": "telemetry",
    "SubscriptionBus": "subscriptions",
    "persist": "integrations",
    "session_id": "integrations",
    "session_state": "integrations",
}


def __getattr__(name: str) -> Any:
    """Import what needs the SDK or an extra when it is asked for: a migration needs neither."""
    if name in _APART:
        return getattr(import_module(f"mcp_persist_sa.{_APART[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
