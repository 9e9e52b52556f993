"""Engines: from a DSN to a configured one. The migrations use these too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from mcp_persist_sa.dsn import DSN
from mcp_persist_sa.errors import InvalidDSN, MissingExtra, StoreUnavailable
from mcp_persist_sa.options import MAX_BUSY_SECONDS, Options

OURS = "mcp_persist_sa_ours"
"""The execution option of engines that are made here: nobody else has hooked anything to them."""


def sqlite_engine(dsn: DSN, options: Options) -> sa.Engine:
    """An engine for a SQLite file, or for a database in memory, whose one connection all threads share.

    Raises:
        StoreUnavailable: The file cannot be where the DSN says.
    """
    if dsn.address:
        _check_file(Path(dsn.address))
    arguments = {
        "timeout": min(options.timeout, MAX_BUSY_SECONDS),
        "isolation_level": None,
        "check_same_thread": False,
        **options.connect_args,
    }
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=dsn.address or None),
        poolclass=QueuePool if dsn.address else StaticPool,
        connect_args=arguments,
        hide_parameters=True,
        **({"pool_size": options.pool_size + 3, "max_overflow": 0} if dsn.address else {}),
    )
    configure_sqlite(engine, synchronous=options.synchronous)
    event.listen(engine, "connect", _put_off_checkpoints)
    return engine.execution_options(**{OURS: True})


def foreign_sqlite_engine(dsn: DSN) -> sa.Engine:
    """An engine for a SQLite file that is not ours: it is read, and nothing is set up there."""
    path = Path(dsn.address).absolute()
    if os.access(path, os.W_OK):
        # Even who only reads leaves a log beside the file unless the end of it may be tidied up.
        access = {"mode": "rw"}
    else:
        access = {"mode": "ro"} if Path(f"{path}-wal").exists() else {"immutable": "1"}
    return sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=path.as_uri(), query={**access, "uri": "true"}),
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )


def configure_sqlite(engine: sa.Engine | AsyncEngine, *, synchronous: str = "FULL") -> None:
    """Set up each connection of an engine of your own as the store does: write-ahead log, and the durability given.

    Args:
        engine: Before its first connection.
        synchronous: `FULL` survives a power cut, `NORMAL` may lose the last commits in one.
    """

    def prepare(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.close()

    event.listen(engine.sync_engine if isinstance(engine, AsyncEngine) else engine, "connect", prepare)


def _put_off_checkpoints(connection: Any, _record: object) -> None:
    """A thread of our own makes them; a writer does so only where the log grows faster than that."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA wal_autocheckpoint = 8000")
    cursor.close()


def _check_file(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise StoreUnavailable(f"The directory {str(folder)!r} does not exist. Create it, or correct the DSN.")
    if path.is_dir():
        raise StoreUnavailable(f"{str(path)!r} is a directory. Name a file in it.")
    if path.exists() and not os.access(path, os.W_OK):
        raise StoreUnavailable(f"{str(path)!r} cannot be written by this user. Change its permissions, or the DSN.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnavailable(
            f"The directory {str(folder)!r} cannot be written by this user, and SQLite keeps its log beside the file. "
            "Change its permissions, or the DSN."
        )


def postgres_engine(dsn: DSN, options: Options, *, pooled: bool, pooler: bool) -> AsyncEngine:
    """An engine for Postgres.

    Args:
        dsn: All that libpq knows may stand in it; asyncpg reads it.
        options: Of the store.
        pooled: Whether to keep connections.
        pooler: Whether a transaction-mode pooler stands between, so that no prepared statement may be left behind.

    Raises:
        MissingExtra: asyncpg is not installed.
        InvalidDSN: asyncpg does not accept the DSN.
    """
    arguments: dict[str, Any] = {
        "dsn": dsn.address,
        "timeout": options.connect_timeout,
        "command_timeout": options.timeout,
        **({"password": options.password} if options.password else {}),
        **(_NO_PREPARED_STATEMENTS if pooler else {}),
        **options.connect_args,
    }
    pool: dict[str, Any] = {"poolclass": NullPool}
    if pooled:
        pool = {"pool_size": options.pool_size, "max_overflow": 0, "pool_timeout": options.timeout}
    try:
        engine = create_async_engine("postgresql+asyncpg://", connect_args=arguments, hide_parameters=True, **pool)
    except ImportError as error:
        raise MissingExtra("Postgres needs a driver: pip install 'mcp-persist-sa[postgres]'") from error
    except ValueError as error:
        raise InvalidDSN(f"The driver does not accept the DSN: {error}.") from None
    return in_schema(engine.execution_options(**{OURS: True}), options.schema)


def in_schema(engine: AsyncEngine, schema: str | None) -> AsyncEngine:
    """The engine with our tables in a schema of that name."""
    return engine.execution_options(schema_translate_map={None: schema}) if schema else engine


def _unnamed() -> str:
    return ""


_NO_PREPARED_STATEMENTS: dict[str, Any] = {
    "statement_cache_size": 0,
    "prepared_statement_cache_size": 0,
    "prepared_statement_name_func": _unnamed,
}
