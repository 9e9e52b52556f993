"""What is looked at in a Postgres server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.backends.sql.names import quoted_names
from mcp_persist_sa.options import Options
from mcp_persist_sa.oversight import Finding
from mcp_persist_sa.schema import revisions

_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE")
_SETTINGS = (
    "server_version",
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "transaction_read_only",
    "is_superuser",
    "max_connections",
    "superuser_reserved_connections",
)
_NEVER_LOST = ("fsync", "full_page_writes")
_LOOK = sa.select(
    *(sa.func.current_setting(name).label(name) for name in _SETTINGS),
    sa.func.pg_is_in_recovery().label("standby"),
    sa.func.pg_backend_pid().label("served"),
    sa.func.quote_ident(sa.literal_column("current_user", sa.Text())).label("role"),
)


def examine(connection: sa.Connection, options: Options) -> Iterator[Finding]:
    """Look at the server, and at what this role may do there."""
    row = connection.execute(_LOOK).one()
    yield Finding("database", "ok", f"PostgreSQL {row.server_version}")
    yield _writable(row)
    yield _durability(row)
    yield _rights(connection, row.role, options.schema)
    yield _role(row)
    yield _connections(row, options)
    yield _pooler(connection, row.served)


def _writable(row: Any) -> Finding:
    if row.standby:
        return Finding("writing", "wrong", "this is a standby", "Name the primary in the DSN, or promote this one.")
    if row.transaction_read_only == "on":
        advice = "Set default_transaction_read_only = off for this role and database."
        return Finding("writing", "wrong", "transactions are read-only", advice)
    return Finding("writing", "ok", "this is the primary")


def _durability(row: Any) -> Finding:
    for name in _NEVER_LOST:
        if getattr(row, name) == "off":
            advice = f"Set {name} = on in postgresql.conf: a power cut may destroy the whole database."
            return Finding("durability", "wrong", f"{name} is off", advice)
    found = f"synchronous_commit is {row.synchronous_commit}"
    if row.synchronous_commit == "off":
        advice = f"ALTER ROLE {row.role} SET synchronous_commit = on: a crash loses events that clients were given."
        return Finding("durability", "wrong", found, advice)
    return Finding("durability", "ok", found)


def _rights(connection: sa.Connection, role: str, schema: str | None) -> Finding:
    names = quoted_names(connection, schema)
    wanted = [(names[name], privilege) for name in names for privilege in _PRIVILEGES if name != revisions.name]
    wanted.append((names[revisions.name], "SELECT"))
    has = connection.execute(sa.select(*(sa.func.has_table_privilege(*pair) for pair in wanted))).one()
    missing = [pair for pair, granted in zip(wanted, has, strict=True) if not granted]
    if not missing:
        return Finding("rights", "ok", f"{role} may do all that the store does")
    table, privilege = missing[0]
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    found = f"{role} may not {privilege} on {table}{more}"
    tables = ", ".join(sorted({name for name, _ in missing}))
    return Finding("rights", "wrong", found, f"GRANT {', '.join(_PRIVILEGES)} ON {tables} TO {role};")


def _role(row: Any) -> Finding:
    if row.is_superuser == "off":
        return Finding("role", "ok", f"{row.role} is no superuser")
    return Finding(
        "role", "note", f"{row.role} is a superuser", "Make a role for the store: docs/migrations.md, Roles."
    )


def _connections(row: Any, options: Options) -> Finding:
    room = int(row.max_connections) - int(row.superuser_reserved_connections)
    each = options.pool_size + 1
    found = f"the server has {room}, a node takes {each} at most: {room // each} nodes"
    if room >= 2 * each:
        return Finding("connections", "ok", found)
    return Finding("connections", "note", found, "Lower pool_size, or raise max_connections.")


def _pooler(connection: sa.Connection, served: int) -> Finding:
    driver: Any = connection.connection.driver_connection
    greeted = driver.get_server_pid() if hasattr(driver, "get_server_pid") else served
    if greeted == served:
        return Finding("pooler", "ok", "none that is seen")
    advice = "Events of other nodes are polled for. Give the nodes a DSN past the pooler if that is too slow."
    return Finding("pooler", "note", "a pooler in transaction mode stands between", advice)
