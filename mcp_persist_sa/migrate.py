"""Bringing tables up to date, and checking that they are. Only Alembic makes tables."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, NoResultFound, SQLAlchemyError

from mcp_persist_sa.database import in_transaction
from mcp_persist_sa.dsn import DSN, parse
from mcp_persist_sa.engine import postgres_engine, sqlite_engine
from mcp_persist_sa.errors import (
    PersistError,
    SchemaAhead,
    SchemaBehind,
    SchemaError,
    SchemaForeign,
    SchemaMissing,
    StoreUnavailable,
)
from mcp_persist_sa.faults import Fault, connect_error, fault_of, persist_error
from mcp_persist_sa.options import Options
from mcp_persist_sa.schema import HEAD, VERSION_TABLE, metadata, revisions

_LOCK = zlib.crc32(VERSION_TABLE.encode())
_LOCK_POLLS = 3000
_POLL_SECONDS = 0.1
_alembic_is_global = threading.Lock()


def script_location() -> Path:
    """Where the migrations are: in the installed package, or at the root of the checkout."""
    packaged = Path(str(resources.files("mcp_persist_sa"))) / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "migrations"


def alembic_config(**attributes: Any) -> Config:
    """Alembic's configuration for our migrations.

    Args:
        **attributes: `dsn` or `connection`, and `schema`, as `env.py` takes them.
    """
    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(attributes)
    return config


async def upgrade(dsn: str, revision: str = "head", **options: Any) -> None:
    """Bring a database up to date, creating the tables where there are none.

    Any number of processes may do so at once.

    Args:
        dsn: Which database.
        revision: Up to which revision.
        **options: Those of `open_store`; `schema` names a Postgres schema, which is created if need be.

    Raises:
        SchemaError: The tables are not ours, or the migration failed; then nothing of that revision was done.
        StoreUnavailable: The database cannot be reached.
    """
    parsed = parse(dsn)
    await upgrade_parsed(parsed, Options.of({**parsed.options, **options}), revision)


async def upgrade_parsed(dsn: DSN, options: Options, revision: str = "head") -> None:
    """As `upgrade`, for what was taken apart and checked."""
    if dsn.kind == "sqlite":
        await asyncio.to_thread(_on_sqlite, dsn, options, lambda c: upgrade_on(c, revision))
    else:
        await _on_postgres(dsn, options, lambda c: upgrade_on(c, revision))


def upgrade_on(connection: sa.Connection, revision: str = "head") -> None:
    """Bring the database of a connection up to date.

    Raises:
        SchemaError: The tables are not ours, or the migration failed.
    """
    with _alembic_is_global:
        try:
            command.upgrade(alembic_config(connection=connection), revision)
        except CommandError as error:
            raise error.__cause__ if isinstance(error.__cause__, PersistError) else SchemaError(str(error)) from error


def on_own_connection(dsn: str, work: Callable[[sa.Connection], None], *, schema: str | None = None) -> None:
    """Run work on a new connection; for Alembic's command line, which has none.

    Raises:
        PersistError: The database cannot be reached.
    """
    parsed = parse(dsn)
    options = Options.of({**parsed.options, **({"schema": schema} if schema else {})})
    if parsed.kind == "sqlite":
        _on_sqlite(parsed, options, work)
    else:
        asyncio.run(_on_postgres(parsed, options, work))


def _on_sqlite(dsn: DSN, options: Options, work: Callable[[sa.Connection], None]) -> None:
    engine = sqlite_engine(dsn, options)
    try:
        with _errors_as_ours(), engine.connect() as connection:
            work(connection)
    finally:
        engine.dispose()


async def _on_postgres(dsn: DSN, options: Options, work: Callable[[sa.Connection], None]) -> None:
    """`schema` becomes the search path: the names in a migration are plain. A migration may take its time."""
    patient = replace(options, connect_args={"command_timeout": None, **options.connect_args})
    engine = postgres_engine(dsn, patient, pooled=False, pooler=bool(options.pgbouncer))
    try:
        with _errors_as_ours():
            async with engine.connect() as connection:
                await connection.run_sync(lambda c: _in_search_path(c, options.schema, work))
    finally:
        await engine.dispose()


@contextmanager
def _errors_as_ours() -> Generator[None, None, None]:
    try:
        yield
    except (SQLAlchemyError, OSError, asyncio.TimeoutError, ValueError, TypeError) as error:
        if isinstance(error, PersistError):
            raise
        fault = fault_of(error)
        if isinstance(error, SQLAlchemyError) and fault in (Fault.OTHER, Fault.SCHEMA):
            raise SchemaError(f"The migration failed and was undone: {persist_error(error, fault)}") from error
        raise connect_error(error) from error


def _in_search_path(connection: sa.Connection, schema: str | None, work: Callable[[sa.Connection], None]) -> None:
    if schema is None:
        work(connection)
        return
    quoted = connection.dialect.identifier_preparer.quote(schema)
    if not sa.inspect(connection).has_schema(schema):
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
    connection.exec_driver_sql(f"SET search_path TO {quoted}")
    connection.commit()
    connection.dialect.default_schema_name = schema
    work(connection.execution_options(schema_translate_map=None))


@contextmanager
def alone(connection: sa.Connection) -> Generator[None, None, None]:
    """Keep other migrations of the same database out, and refuse tables that are not ours.

    Postgres: a session lock that is polled for; a blocked waiter would deadlock with CREATE INDEX CONCURRENTLY.
    SQLite: one write transaction around everything, with foreign keys off, because a table that is rebuilt is dropped,
    and its children would go with it.
    """
    if connection.dialect.name == "sqlite":
        with _sqlite_alone(connection):
            yield
        return
    _take_lock(connection)
    try:
        _refuse_foreign(connection)
        connection.rollback()
        yield
    finally:
        connection.rollback()
        connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
        connection.commit()


def _take_lock(connection: sa.Connection) -> None:
    for _ in range(_LOCK_POLLS):
        taken = connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK))).scalar()
        connection.commit()
        if taken:
            return
        connection.execute(sa.select(sa.func.pg_sleep(_POLL_SECONDS)))
        connection.commit()
    raise StoreUnavailable("Another migration of this database has been running for minutes. Wait for it, or end it.")


@contextmanager
def _sqlite_alone(connection: sa.Connection) -> Generator[None, None, None]:
    enforced = connection.exec_driver_sql("PRAGMA foreign_keys").scalar()
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.rollback()
    if not in_transaction(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    try:
        _refuse_foreign(connection)
        yield
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise SchemaError(f"The migration would leave rows of {broken[0]} without their parents. Nothing was done.")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        connection.exec_driver_sql(f"PRAGMA foreign_keys = {int(enforced or 0)}")


def _refuse_foreign(connection: sa.Connection) -> None:
    """Our version table tells that our migrations were here; without it, no table may have a name of ours."""
    names = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in names:
        _refuse_names(names & metadata.tables.keys())


def _refuse_names(names: set[str]) -> None:
    if revisions.name in names:
        raise SchemaForeign("The tables are migrated by a host application's Alembic. Run its upgrade.")
    if names:
        raise SchemaForeign(
            f"The table {min(names)} exists, but our migrations did not make it. Rename it, or choose another schema."
        )


def verify(connection: sa.Connection, schema: str | None = None) -> None:
    """Check that this release can work with the tables as they are. Nothing is changed.

    Raises:
        SchemaMissing: There are none.
        SchemaBehind: They have to be upgraded.
        SchemaAhead: This release is too old for them.
        SchemaForeign: They are not ours.
    """
    names = set(sa.inspect(connection).get_table_names(schema=schema))
    if revisions.name not in names:
        _refuse_names(names & metadata.tables.keys())
        raise SchemaMissing("The database has no tables of ours yet. Run `mcp-persist-sa upgrade`.")
    try:
        row = connection.execute(sa.select(revisions)).one()
    except (DBAPIError, NoResultFound) as error:
        if fault_of(error) in (Fault.LOST, Fault.UNDONE):
            raise
        raise SchemaForeign(f"The table {revisions.name} is not ours, or is empty. Choose another schema.") from error
    if _number(row.revision) < _number(HEAD):
        raise SchemaBehind(
            f"The database is at {row.revision}, this release needs {HEAD}. Run `mcp-persist-sa upgrade`."
        )
    if _number(row.oldest_revision) > _number(HEAD):
        raise SchemaAhead(
            f"The database is at {row.revision} and needs release {row.oldest_release} or newer. "
            "Upgrade this package: pip install -U mcp-persist-sa"
        )


def _number(revision: str) -> int:
    return int(revision.rpartition("_")[2])


def dialect_name(dsn: str) -> str:
    """The dialect for which SQL is to be written.

    Raises:
        SchemaError: There is none.
    """
    kind = parse(dsn).kind
    if kind == "redis":
        raise SchemaError("Redis has no tables, and so no migrations.")
    return kind
