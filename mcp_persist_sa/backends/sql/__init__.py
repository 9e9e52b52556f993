"""SQLite and Postgres, by the same statements."""

from mcp_persist_sa.backends.sql.backend import SQLBackend

__all__ = ["SQLBackend"]
