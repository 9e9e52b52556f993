"""The database of an MCP server: sessions, their state, and resumable event streams."""

from mcp_persist_sa import errors
from mcp_persist_sa.engine import configure_sqlite
from mcp_persist_sa.errors import *  # noqa: F403
from mcp_persist_sa.models import (
    Event,
    Gap,
    NewEvent,
    Page,
    Purged,
    Session,
    SessionPage,
    StateEntry,
    StreamInfo,
)
from mcp_persist_sa.options import Options
from mcp_persist_sa.schema import not_ours
from mcp_persist_sa.store import Store, open_store
