"""The names of our tables, for functions of Postgres that take them as text."""

from __future__ import annotations

import sqlalchemy as sa

from mcp_persist_sa.schema import metadata


def quoted_names(connection: sa.Connection, schema: str | None) -> dict[str, str]:
    """By the plain name of each table, the one with which it is found."""
    prefix = "" if schema is None else f"{connection.dialect.identifier_preparer.quote(schema)}."
    return {name: f"{prefix}{name}" for name in metadata.tables}
