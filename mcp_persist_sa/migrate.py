"""Bringing tables up to date, and checking that they are. Only Alembic makes tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from mcp_persist_sa.compatibility import is_newer, refuse_redis, refuse_schema, verify
from mcp_persist_sa.connections import AsyncDatabase, ThreadDatabase
from mcp_persist_sa.database import once, unbounded
from mcp_persist_sa.dsn import DSN, parse
from mcp_persist_sa.engine import postgres_engine, sqlite_engine
from mcp_persist_sa.errors import PersistError, SchemaError
from mcp_persist_sa.exclusive import LOCK_SECONDS, alembic_alone
from mcp_persist_sa.faults import Failure, Fault, describe, fault_of
from mcp_persist_sa.options import Options

__all__ = ["alembic_config", "on_own_connection", "script_location", "upgrade", "upgrade_on", "verify"]

Work = Callable[[sa.Connection], None]


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

    Any number of processes may do so at once. A database that a newer release has upgraded, and that this one can use,
    is left as it is.

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
    await _run(dsn, options, partial(_upgrade, revision=revision))


def upgrade_on(connection: sa.Connection, revision: str = "head", *, options: Options | None = None) -> None:
    """Bring the database of a connection up to date.

    Args:
        connection: Without a transaction; on Postgres, one that is open is joined.
        revision: Up to which revision.
        options: Which schema, and whether a pooler stands between.

    Raises:
        SchemaError: The tables are not ours, or the migration failed.
    """
    _in_place(connection, options or Options(), partial(_upgrade, revision=revision))


def _upgrade(connection: sa.Connection, revision: str) -> None:
    config = alembic_config(connection=connection)
    if revision == "head" and _is_newer(connection, config):
        return
    try:
        with alembic_alone(connection):
            command.upgrade(config, revision)
    except CommandError as error:
        raise error.__cause__ if isinstance(error.__cause__, PersistError) else SchemaError(str(error)) from error


def _is_newer(connection: sa.Connection, config: Config) -> bool:
    """Whether a newer release has upgraded the database already, so that this one can still use it."""
    joined = connection.in_transaction()
    newer = is_newer(connection, str(ScriptDirectory.from_config(config).get_current_head()))
    if newer:
        verify(connection)
    if not joined:
        connection.rollback()
    return newer


@contextmanager
def failure_said() -> Generator[None, None, None]:
    """Say of an error that it is the migration's own fault, where it is."""
    try:
        yield
    except SQLAlchemyError as error:
        if fault_of(error) in (Fault.UNDONE, Fault.LOST, Fault.DENIED):
            raise
        raise SchemaError(f"The migration failed and was undone: {describe(error)}.") from error


def on_own_connection(dsn: str, work: Work, *, schema: str | None = None) -> None:
    """Run work on a new connection; for Alembic's command line, which has none.

    Raises:
        PersistError: The database cannot be reached.
    """
    parsed = parse(dsn)
    options = Options.of({**parsed.options, **({"schema": schema} if schema else {})})
    _to_the_end(_run(parsed, options, work))


def _to_the_end(run: Coroutine[Any, Any, None]) -> None:
    """Also where an event loop is running already, which waits meanwhile."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(run)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run).result()


async def _run(dsn: DSN, options: Options, work: Work) -> None:
    refuse_redis(dsn.kind)
    refuse_schema(dsn.kind, options.schema)
    if dsn.kind == "postgresql":
        await _on_postgres(dsn, options, work)
        return
    database = ThreadDatabase(sqlite_engine(dsn, options), timeout=LOCK_SECONDS, readers=1)
    try:
        await unbounded(database, work)
    finally:
        await database.close()


async def _on_postgres(dsn: DSN, options: Options, work: Work) -> None:
    """A statement of a migration may take its time."""
    patient = replace(options, schema=None, connect_args={"command_timeout": None, **options.connect_args})
    engine = postgres_engine(dsn, patient, pooled=False, pooler=True)
    database = AsyncDatabase(engine, timeout=options.timeout, owned=True, bounded=False)
    try:
        await once(database, lambda connection: _in_place(connection, options, work), atomic=True, writes=False)
    except Failure as failure:
        raise failure.error from failure.__cause__
    finally:
        await database.close()


def _in_place(connection: sa.Connection, options: Options, work: Work) -> None:
    """Run work with `schema` as the search path, because the names in a migration are plain.

    Through a pooler all of it is one transaction: the next one might meet another server process, which knows neither
    the search path nor the lock.
    """
    if connection.dialect.name == "sqlite":
        work(connection)
    elif connection.in_transaction():
        _in_search_path(connection, options.schema, work, local=True)
    elif _through_pooler(connection, options):
        with connection.begin():
            _in_search_path(connection, options.schema, work, local=True)
    else:
        _in_search_path(connection, options.schema, work, local=False)


def _through_pooler(connection: sa.Connection, options: Options) -> bool:
    """Whether another server process answers than the one that greeted, as far as the driver tells."""
    if options.pgbouncer is not None:
        return options.pgbouncer
    driver = connection.connection.driver_connection
    greeted = driver.get_server_pid() if driver is not None and hasattr(driver, "get_server_pid") else None
    served = connection.execute(sa.select(sa.func.pg_backend_pid())).scalar()
    connection.rollback()
    return greeted not in (None, served)


def _in_search_path(connection: sa.Connection, schema: str | None, work: Work, *, local: bool) -> None:
    if schema is None:
        work(connection)
        return
    if not sa.inspect(connection).has_schema(schema):
        _create_schema(connection, schema)
    before = connection.execute(sa.select(sa.func.current_setting("search_path"))).scalar()
    _set_search_path(connection, _quoted(schema), local=local)
    try:
        work(connection)
    finally:
        if not local:
            connection.rollback()
            _set_search_path(connection, before, local=False)


def _quoted(name: str) -> str:
    """As a value, in which no driver takes a percent sign for its own."""
    return postgresql.dialect(paramstyle="named").identifier_preparer.quote(name)


def _create_schema(connection: sa.Connection, name: str) -> None:
    with suppress(IntegrityError), connection.begin_nested():  # somebody else made it at the same time
        connection.execute(CreateSchema(name, if_not_exists=True))


def _set_search_path(connection: sa.Connection, path: str | None, *, local: bool) -> None:
    connection.execute(sa.select(sa.func.set_config("search_path", path, local)))
    if not local:
        connection.commit()


def offline_preamble(dsn: str, schema: str | None) -> tuple[str, list[sa.Executable]]:
    """The dialect for which SQL is to be written, and the statements to begin with.

    Raises:
        PersistError: There is none, or it knows no schemas.
    """
    parsed = parse(dsn)
    name = schema or Options.of(parsed.options).schema
    refuse_redis(parsed.kind)
    refuse_schema(parsed.kind, name)
    if name is None:
        return parsed.kind, []
    path = sa.select(sa.func.set_config("search_path", _quoted(name), sa.false()))
    return parsed.kind, [CreateSchema(name, if_not_exists=True), path]
