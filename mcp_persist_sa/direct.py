"""The driver's own connection, where it is ours and nobody else has hooked anything to it.

What SQLAlchemy does around a statement, or around the two ends of a transaction, takes longer than SQLite needs for the
thing itself.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from random import uniform
from time import monotonic, sleep
from types import TracebackType
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from mcp_persist_sa.engine import OURS
from mcp_persist_sa.faults import DriverError, describe
from mcp_persist_sa.transactions import Work

T = TypeVar("T")

logger = logging.getLogger(__name__)

CHECKPOINT_CHANGES = 500
"""Changed rows, after which the log is worth a checkpoint: each is up to three of its pages."""

CHECKPOINT_REST = 1000
"""Changed rows that the writer itself brings into the file, within some milliseconds."""

_PAUSE = (0.0005, 0.002)
_TAKES_TURNS = "mcp_persist_sa takes turns"


def is_ours(connection: sa.Connection) -> bool:
    """Whether it is of an engine of our own."""
    return bool(connection.get_execution_options().get(OURS))


def sqlite_driver(connection: sa.Connection) -> sqlite3.Connection | None:
    """The connection of SQLite's driver, if it is one of ours."""
    if connection.dialect.driver != "pysqlite" or not is_ours(connection):
        return None
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


class _Translated:
    """Raises what a driver raises as `DriverError`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, DriverError | OSError | asyncio.TimeoutError):
            raise DriverError(str(error)) from error


translated = _Translated()


def transact_in_turn(connection: sa.Connection, work: Work[T], patience: float) -> T:
    """Run work and commit, with SQLite's write lock from the beginning: later it could not be had without a deadlock.

    Args:
        connection: Ours, without a transaction.
        work: What.
        patience: Seconds to wait for the lock.
    """
    driver = sqlite_driver(connection)
    assert driver is not None
    try:
        _take_turn(connection, driver, patience)
        result = work(connection)
        with translated:
            driver.commit()
        connection.commit()
    except BaseException:
        connection.rollback()
        driver.rollback()
        raise
    return result


@contextmanager
def as_of_now(driver: sqlite3.Connection) -> Generator[None, None, None]:
    """Within it, whatever is read is as it was at the first reading."""
    with translated:
        driver.execute("BEGIN")
    try:
        yield
    finally:
        with translated:
            driver.rollback()


def changes_of(connection: sa.Connection) -> int:
    """How many rows were ever changed through a connection of ours."""
    driver = sqlite_driver(connection)
    return 0 if driver is None else driver.total_changes


def checkpoint(connection: sa.Connection) -> None:
    """Bring what is in SQLite's log into the file, as far as nobody has to wait for it.

    Whoever writes next begins the log anew if nothing was written meanwhile. Where that never comes true, a commit does
    it once the log is very long.
    """
    try:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
    except SQLAlchemyError as error:
        logger.info("The log was not brought into the file this time: %(error)s", {"error": describe(error)})
    finally:
        connection.rollback()


def _take_turn(connection: sa.Connection, driver: sqlite3.Connection, patience: float) -> None:
    """Begin as soon as another process lets go of the lock.

    SQLite's own waiting looks ever more seldom, at last ten times a second, while others take turn after turn.
    """
    deadline = monotonic() + patience
    with translated:
        if not connection.info.get(_TAKES_TURNS):
            driver.execute("PRAGMA busy_timeout = 0")
            connection.info[_TAKES_TURNS] = True
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or monotonic() >= deadline:
                    raise
                sleep(uniform(*_PAUSE))
            else:
                return
