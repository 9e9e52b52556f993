"""Opening: from a DSN or an engine to a backend and a notifier, once it is sure that the tables are right."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from mcp_persist_sa.backends.sql import SQLBackend
from mcp_persist_sa.compatibility import refuse_schema, verify
from mcp_persist_sa.connections import AsyncDatabase, ThreadDatabase
from mcp_persist_sa.database import Database, read, unbounded
from mcp_persist_sa.dsn import DSN, parse
from mcp_persist_sa.engine import in_schema, postgres_engine, sqlite_engine
from mcp_persist_sa.errors import InvalidDSN, MissingExtra, PersistError, SchemaBehind, SchemaMissing, StoreUnavailable
from mcp_persist_sa.faults import connect_error
from mcp_persist_sa.hints import Notifier
from mcp_persist_sa.migrate import upgrade_on, upgrade_parsed
from mcp_persist_sa.notifiers.fanout import FanOut
from mcp_persist_sa.notifiers.postgres import PostgresNotifier
from mcp_persist_sa.notifiers.sqlite import SQLiteNotifier
from mcp_persist_sa.options import Options
from mcp_persist_sa.protocols import Backend


class Opened(NamedTuple):
    """What stands behind an open store."""

    backend: Backend
    notifier: Notifier
    options: Options
    where: str


async def open_dsn(dsn: str, options: Options) -> Opened:
    """Open what a DSN names.

    Raises:
        PersistError: It cannot be opened; the error says why, and what to do.
    """
    parsed = parse(dsn)
    open_kind = {"sqlite": _open_sqlite, "postgresql": _open_postgres, "redis": _open_redis}[parsed.kind]
    try:
        return await open_kind(parsed, options)
    except PersistError as error:
        raise type(error)(f"{error} (Opening {parsed.safe})") from error.__cause__


async def open_given(source: object, options: Options) -> Opened:
    """Open a database through the caller's engine or Redis client, which stays the caller's.

    Raises:
        PersistError: It cannot be opened; the error says why, and what to do.
    """
    if isinstance(source, AsyncEngine):
        return await _open_engine(source, options)
    if type(source).__module__.startswith("redis.asyncio"):
        return await _open_client(source, options)
    raise InvalidDSN(
        f"Give a DSN, an engine from create_async_engine, or a client from redis.asyncio, not {type(source).__name__}."
    )


async def _open_engine(engine: AsyncEngine, options: Options) -> Opened:
    if engine.dialect.name not in ("sqlite", "postgresql"):
        raise InvalidDSN(f"The store works with SQLite and Postgres, not with {engine.dialect.name}.")
    refuse_schema(engine.dialect.name, options.schema)
    database = AsyncDatabase(in_schema(engine, options.schema), timeout=options.timeout, owned=False)
    if await _needs_upgrade(database, options, by_default=database.dialect == "sqlite"):
        await _upgrade_through(engine, options)
    where = engine.url.render_as_string(hide_password=True)
    alone = database.dialect == "sqlite" and not await read(database, _file_of)
    listens = engine.driver in ("asyncpg", "aiosqlite")
    return _opened(database, options, where, alone=alone, listens=listens)


def _file_of(connection: sa.Connection) -> str:
    """The path of a SQLite database; empty where it is in memory."""
    return next(row.file for row in connection.exec_driver_sql("PRAGMA database_list") if row.name == "main")


def _opened(database: Database, options: Options, where: str, *, alone: bool = False, listens: bool = True) -> Opened:
    """A SQL database, and what wakes whoever waits.

    Args:
        database: What was opened.
        options: Of the store.
        where: The same, for people to read.
        alone: Whether no other process can write.
        listens: Whether the driver can be used to hear other processes.
    """
    notifier: Notifier
    if alone or not (options.background and listens):
        notifier = FanOut(options.poll_interval, "local" if alone else "polling")
    else:
        kind = SQLiteNotifier if database.dialect == "sqlite" else PostgresNotifier
        notifier = kind(database, options)
    return Opened(SQLBackend(database, options), notifier, options, where)


async def _upgrade_through(engine: AsyncEngine, options: Options) -> None:
    patient = AsyncDatabase(engine, timeout=options.timeout, owned=False, bounded=False)
    try:
        await unbounded(patient, partial(upgrade_on, options=options))
    finally:
        await patient.close()


async def _open_sqlite(dsn: DSN, options: Options) -> Opened:
    refuse_schema(dsn.kind, options.schema)
    database = ThreadDatabase(sqlite_engine(dsn, options), timeout=options.timeout, readers=options.pool_size)
    try:
        if await _needs_upgrade(database, options, by_default=True):
            await unbounded(database, upgrade_on)
    except BaseException:
        await database.close()
        raise
    return _opened(database, options, dsn.safe, alone=dsn.is_memory)


async def _open_postgres(dsn: DSN, options: Options) -> Opened:
    pooler = await _probe(dsn, options)
    engine = postgres_engine(dsn, options, pooled=True, pooler=pooler)
    database = AsyncDatabase(engine, timeout=options.timeout, owned=True)
    try:
        if await _needs_upgrade(database, options, by_default=False):
            await upgrade_parsed(dsn, replace(options, pgbouncer=pooler))
    except BaseException:
        await database.close()
        raise
    return _opened(database, options, dsn.safe)


async def _open_redis(dsn: DSN, options: Options) -> Opened:
    refuse_schema(dsn.kind, options.schema)
    try:
        from mcp_persist_sa.opening_redis import open_redis
    except ImportError as error:
        raise MissingExtra("Redis needs a driver: pip install 'mcp-persist-sa[redis]'") from error
    return Opened(*await open_redis(dsn, options), options, dsn.safe)


async def _open_client(client: object, options: Options) -> Opened:
    from mcp_persist_sa.opening_redis import open_client

    refuse_schema("redis", options.schema)
    return Opened(*await open_client(client, options), options, type(client).__name__)


async def _needs_upgrade(database: Database, options: Options, *, by_default: bool) -> bool:
    """Whether the tables have to be brought up to date, and the options allow it."""
    try:
        await read(database, lambda connection: verify(connection, options.schema))
    except (SchemaMissing, SchemaBehind):
        if by_default if options.migrate is None else options.migrate:
            return True
        raise
    return False


async def _probe(dsn: DSN, options: Options) -> bool:
    """Connect once, and find out whether a pooler stands between: it answers for another server process than ours.

    A pooler in transaction mode gives each transaction another server process, so that statements prepared by name are
    lost or met by others.
    """
    engine = postgres_engine(dsn, options, pooled=False, pooler=True)
    try:
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            greeted = driver.get_server_pid() if driver is not None else None
            served = await connection.scalar(sa.select(sa.func.pg_backend_pid()))
    except Exception as error:
        raise _unreachable(error, options) from error
    finally:
        await engine.dispose()
    return greeted != served if options.pgbouncer is None else options.pgbouncer


def _unreachable(error: Exception, options: Options) -> PersistError:
    if isinstance(error, asyncio.TimeoutError):
        return StoreUnavailable(f"The server did not answer within {options.connect_timeout:g} s. Does it run?")
    return connect_error(error)
