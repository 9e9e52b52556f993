"""Whether this release can work with the tables as they are, and whether they are ours at all."""

from __future__ import annotations

import shlex

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound

from mcp_persist_sa.errors import InvalidOption, SchemaAhead, SchemaBehind, SchemaError, SchemaForeign, SchemaMissing
from mcp_persist_sa.faults import Fault, fault_of
from mcp_persist_sa.schema import HEAD, VERSION_TABLE, metadata, revisions

_versions = sa.table(VERSION_TABLE, sa.column("version_num"))


def verify(connection: sa.Connection, schema: str | None = None) -> None:
    """Check that this release can work with the tables as they are. Nothing is changed.

    Args:
        connection: Its names are translated to the schema already.
        schema: The Postgres schema of the tables.

    Raises:
        SchemaMissing: There are none.
        SchemaBehind: They have to be upgraded.
        SchemaAhead: This release is too old for them.
        SchemaForeign: They are not ours.
    """
    command = f"mcp-persist-sa upgrade{f' --schema {shlex.quote(schema)}' if schema else ''}"
    names = set(sa.inspect(connection).get_table_names(schema=schema))
    if revisions.name not in names:
        _refuse_names(connection, names & metadata.tables.keys())
        raise SchemaMissing(f"The database has no tables of ours yet. Run `{command}`.")
    revision, oldest, release = _revision(connection)
    if _number(revision) < _number(HEAD):
        raise SchemaBehind(f"The database is at {revision}, this release needs {HEAD}. Run `{command}`.")
    if _number(oldest) > _number(HEAD):
        raise SchemaAhead(
            f"The database is at {revision} and needs release {release} or newer. "
            "Upgrade this package: pip install -U mcp-persist-sa"
        )


def is_newer(connection: sa.Connection, head: str) -> bool:
    """Whether the tables are beyond our newest revision.

    Raises:
        SchemaForeign: They are not ours.
    """
    names = sa.inspect(connection).get_table_names()
    return revisions.name in names and _number(_revision(connection)[0]) > _number(head)


def refuse_foreign(connection: sa.Connection) -> None:
    """Our version table tells that our migrations were here; without it, no table may have a name of ours.

    Raises:
        SchemaForeign: One has.
    """
    names = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in names or connection.execute(sa.select(_versions)).first() is None:
        _refuse_names(connection, names & metadata.tables.keys())


def _refuse_names(connection: sa.Connection, names: set[str]) -> None:
    if revisions.name in names:
        raise SchemaForeign("The tables are migrated by a host application's Alembic. Run its `alembic upgrade heads`.")
    if names:
        raise SchemaForeign(
            f"The table {min(names)} exists, but our migrations did not make it. Rename it, or {_elsewhere(connection)}"
        )


def _elsewhere(connection: sa.Connection) -> str:
    if connection.dialect.name == "sqlite":
        return "choose another file."
    return "choose another schema (`mcp-persist-sa upgrade --schema`)."


def revision_of(connection: sa.Connection) -> str:
    """The revision of the tables.

    Raises:
        SchemaForeign: They are not ours.
    """
    return _revision(connection)[0]


def _revision(connection: sa.Connection) -> tuple[str, str, str]:
    """The revision of the tables, the oldest whose code can use them, and its release."""
    try:
        row = connection.execute(sa.select(revisions)).one()
        _ = _number(row.revision), _number(row.oldest_revision)
    except (DBAPIError, NoResultFound, MultipleResultsFound, ValueError) as error:
        if isinstance(error, DBAPIError) and fault_of(error) is not Fault.SCHEMA:
            raise
        raise SchemaForeign(
            f"The table {revisions.name} is not ours, or was emptied. Restore it, or {_elsewhere(connection)}"
        ) from error
    return row.revision, row.oldest_revision, row.oldest_release


def _number(revision: str) -> int:
    return int(revision.rpartition("_")[2])


def refuse_redis(kind: str) -> None:
    """Refuse to migrate what has no tables.

    Raises:
        SchemaError: It is Redis.
    """
    if kind == "redis":
        raise SchemaError("Redis has no tables, and so no migrations.")


def refuse_schema(kind: str, schema: str | None) -> None:
    """Refuse the option `schema` where there is no such thing.

    Raises:
        InvalidOption: It is given, and the database is not Postgres.
    """
    if schema and kind != "postgresql":
        instead = "On SQLite, choose another file." if kind == "sqlite" else "On Redis, choose a key_prefix."
        raise InvalidOption(f"The option schema is for Postgres. {instead}")
