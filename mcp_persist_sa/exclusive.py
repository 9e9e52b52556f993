"""One migration at a time, and all of it or nothing."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from mcp_persist_sa.compatibility import refuse_foreign
from mcp_persist_sa.errors import SchemaError, StoreUnavailable
from mcp_persist_sa.schema import VERSION_TABLE
from mcp_persist_sa.transactions import begin_immediate, pause

LOCK_SECONDS = 300.0
"""How long a migration waits for another one of the same database."""

_LOCK = zlib.crc32(VERSION_TABLE.encode())
_POLL_SECONDS = 0.1
_alembic = threading.Lock()


@contextmanager
def alembic_alone(connection: sa.Connection) -> Generator[None, None, None]:
    """Alembic keeps its context in globals: one migration at a time in a process.

    The lock is polled for, because whoever holds it may be in the same event loop.
    """
    while not _alembic.acquire(blocking=False):
        pause(connection, _POLL_SECONDS)
    try:
        yield
    finally:
        _alembic.release()


@contextmanager
def alone(connection: sa.Connection) -> Generator[None, None, None]:
    """Keep other migrations of the same database out, and refuse tables that are not ours.

    A transaction that is open already on Postgres is joined, and holds the lock until its end.
    """
    if connection.dialect.name == "sqlite":
        lock = _sqlite_lock
    else:
        lock = _transaction_lock if connection.in_transaction() else _session_lock
    with lock(connection):
        yield


@contextmanager
def _session_lock(connection: sa.Connection) -> Generator[None, None, None]:
    """Outlives the transactions of the migration, which may need several."""
    _poll(connection, sa.func.pg_try_advisory_lock, connection.commit)
    try:
        refuse_foreign(connection)
        connection.rollback()  # Alembic would take an open transaction for somebody else's to commit
        yield
    finally:
        connection.rollback()
        connection.execute(sa.select(sa.func.pg_advisory_unlock(_LOCK)))
        connection.commit()


@contextmanager
def _transaction_lock(connection: sa.Connection) -> Generator[None, None, None]:
    _poll(connection, sa.func.pg_try_advisory_xact_lock, lambda: None)
    refuse_foreign(connection)
    yield


def _poll(connection: sa.Connection, take: Callable[[int], Any], between: Callable[[], None]) -> None:
    """Ask again and again: whoever waited for the lock in a statement would deadlock with CREATE INDEX CONCURRENTLY."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        taken = connection.execute(sa.select(take(_LOCK))).scalar()
        between()
        if taken:
            return
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"Another migration of this database has not ended in {LOCK_SECONDS:g} s. Wait for it, or end it."
            )
        pause(connection, _POLL_SECONDS)


@contextmanager
def _sqlite_lock(connection: sa.Connection) -> Generator[None, None, None]:
    """One write transaction around everything, with foreign keys off.

    A table that is rebuilt is dropped, and its children would go with it.
    """
    if connection.in_transaction():
        raise SchemaError("Foreign keys cannot be turned off in a transaction. Migrate on a connection without one.")
    enforced = _foreign_keys(connection)
    _foreign_keys(connection, set_to=0)
    try:
        if _foreign_keys(connection):
            raise SchemaError("The driver does not let foreign keys be turned off. Migrate with another engine.")
        begin_immediate(connection)
        refuse_foreign(connection)
        yield
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise SchemaError(f"The migration would leave rows of {broken[0]} without their parents. Nothing was done.")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    finally:
        _foreign_keys(connection, set_to=enforced)


def _foreign_keys(connection: sa.Connection, *, set_to: int | None = None) -> int:
    """Past SQLAlchemy, so that no hook of the caller's engine begins a transaction, in which this has no effect."""
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA foreign_keys" + ("" if set_to is None else f" = {set_to}"))
        row = cursor.fetchone() if set_to is None else None
    finally:
        cursor.close()
    return row[0] if row else 0
