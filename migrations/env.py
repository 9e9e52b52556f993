"""Runs the migrations: on the connection that the package hands over, or on one of its own.

The DSN is `-x url=...`, else what the command line of the package was given, else MCP_PERSIST_SA_DSN; the Postgres
schema is `-x schema=...`, else what stands in the DSN. With `--sql` nothing is connected to; a revision that rebuilds a
SQLite table has to be run online.
"""

import os
from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.util import CommandError

from mcp_persist_sa import drift, exclusive, migrate, schema
from mcp_persist_sa.dsn import ENVIRONMENT
from mcp_persist_sa.errors import PersistError

arguments = context.get_x_argument(as_dictionary=True)
config = context.config
settings: dict[str, Any] = {
    "target_metadata": schema.metadata,
    "version_table": schema.VERSION_TABLE,
    "include_name": schema.include_name,
    "compare_server_default": True,
    "autogenerate_plugins": drift.PLUGINS,
}


def dsn() -> str:
    """The DSN, from wherever it was given."""
    found = arguments.get("url") or config.attributes.get("dsn") or os.environ.get(ENVIRONMENT)
    if not found:
        raise CommandError(f"No DSN: set {ENVIRONMENT}, or give -x url=sqlite:///file.db")
    return found


def postgres_schema() -> str | None:
    """The Postgres schema, where it was given apart from the DSN."""
    return arguments.get("schema") or config.attributes.get("schema")


def offline() -> None:
    """Print the SQL, for a database administrator to run."""
    dialect, preamble = migrate.offline_preamble(dsn(), postgres_schema())
    context.configure(dialect_name=dialect, literal_binds=True, dialect_opts={"paramstyle": "named"}, **settings)
    with context.begin_transaction():
        for statement in preamble:
            context.execute(statement)
        context.run_migrations()


def online(connection: sa.Connection) -> None:
    """Migrate on a connection, alone."""
    with exclusive.alone(connection), migrate.failure_said():
        sqlite = connection.dialect.name == "sqlite"
        context.configure(
            connection=connection, render_as_batch=sqlite, transaction_per_migration=not sqlite, **settings
        )
        with context.begin_transaction():
            context.run_migrations()


unknown = arguments.keys() - {"url", "schema"}
if unknown:
    raise CommandError(f"There is no -x {min(unknown)}=. Known: url, schema.")
try:
    if context.is_offline_mode():
        offline()
    elif config.attributes.get("connection") is not None:
        online(config.attributes["connection"])
    else:
        migrate.on_own_connection(dsn(), online, schema=postgres_schema())
except PersistError as error:
    raise CommandError(str(error)) from error
