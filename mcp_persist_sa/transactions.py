"""How a transaction begins and ends, whoever's connection it is on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import sleep
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import AdaptedConnection

T = TypeVar("T")
Work = Callable[[sa.Connection], T]


def transact(connection: sa.Connection, work: Work[T]) -> T:
    """Run work and commit.

    Args:
        connection: Without a transaction.
        work: What.
    """
    try:
        if connection.dialect.name == "sqlite":
            begin_immediate(connection)
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


def pause(connection: sa.Connection, seconds: float) -> None:
    """Let others go on, who may be in the same event loop."""
    driver = connection.connection.dbapi_connection
    if isinstance(driver, AdaptedConnection):
        driver.run_async(lambda _: asyncio.sleep(seconds))
    else:
        sleep(seconds)
