"""How a transaction begins and ends; on SQLite, how it gets its turn among other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import uniform
from time import monotonic, sleep
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.exc import OperationalError

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

_PAUSE = (0.0005, 0.002)
_TAKES_TURNS = "mcp_persist_sa takes turns"


def transact(connection: sa.Connection, work: Work[T], begin: Work[None] | None = None) -> T:
    """Run work and commit.

    Args:
        connection: Without a transaction.
        work: What.
        begin: How to begin, on SQLite; None to wait for the lock as the connection does.
    """
    try:
        if connection.dialect.name == "sqlite":
            (begin or begin_immediate)(connection)
        result = work(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return result


def begin_immediate(connection: sa.Connection) -> None:
    """Begin with SQLite's write lock: it cannot be taken later without risking a deadlock.

    A caller's engine may begin a transaction of its own by a hook, which then gives way.
    """
    connection.begin()
    if getattr(connection.connection.driver_connection, "in_transaction", False):
        connection.exec_driver_sql("ROLLBACK")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def take_turn(connection: sa.Connection, patience: float) -> None:
    """Begin with SQLite's write lock, as soon as another process lets go of it.

    SQLite's own waiting looks ever more seldom, at last ten times a second, while others take turn after turn.

    Args:
        connection: Without a transaction.
        patience: Seconds.
    """
    deadline = monotonic() + patience
    if not connection.info.get(_TAKES_TURNS):
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
        connection.info[_TAKES_TURNS] = True
    while True:
        connection.rollback()
        try:
            begin_immediate(connection)
        except OperationalError as error:
            if "locked" not in str(error.orig) or monotonic() >= deadline:
                raise
            sleep(uniform(*_PAUSE))
        else:
            return


def pause(connection: sa.Connection, seconds: float) -> None:
    """Let others go on, who may be in the same event loop."""
    driver = connection.connection.dbapi_connection
    if isinstance(driver, AdaptedConnection):
        driver.run_async(lambda _: asyncio.sleep(seconds))
    else:
        sleep(seconds)
