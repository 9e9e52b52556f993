"""What a doctor looks at in a SQL database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.examining import postgres, sqlite
from mcp_persist_sa.backends.sql.examining.both import overdue, times
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import Finding


def examine(connection: sa.Connection, options: Options, common: Mapping[str, Any]) -> list[Finding]:
    """Look at everything."""
    own = sqlite.examine if connection.dialect.name == "sqlite" else postgres.examine
    return [*own(connection, options), times(connection, common), overdue(connection, common)]
