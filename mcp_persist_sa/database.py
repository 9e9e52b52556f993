"""How work on a database is run: every query of this package is a plain function of a `Connection`.

`connections.py` has the two ways to call it.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from mcp_persist_sa.apart import Run
from mcp_persist_sa.errors import StoreClosed
from mcp_persist_sa.faults import Failure, Fault, NotConnected, connect_error, fault_of, persist_error, repeat
from mcp_persist_sa.models import PoolHealth
from mcp_persist_sa.transactions import Work

T = TypeVar("T")


class Database(Protocol):
    """Runs work on connections."""

    dialect: str
    timeout: float

    async def attempt(self, work: Work[T], *, atomic: bool, writes: bool, protected: bool) -> T:
        """Run work once; what the driver raises comes out as it is, or as `NotConnected`.

        Args:
            work: Called with a connection; its changes are committed when it returns.
            atomic: Whether it is of more than one statement that must happen together.
            writes: Whether it changes anything.
            protected: Whether it goes on when the caller is cancelled; otherwise the connection is lost with it.
        """
        ...

    def apart(self) -> AbstractAsyncContextManager[Run]:
        """A connection beside those of the calls, which commits each statement, and what runs work on it."""
        ...

    def pool(self) -> PoolHealth | None:
        """How busy the connections are; None where it is not known."""
        ...

    async def close(self) -> None:
        """Give back what was taken."""
        ...


async def once(database: Database, work: Work[T], *, atomic: bool, writes: bool, protected: bool = True) -> T:
    """Run work one time.

    Args:
        database: Where.
        work: What.
        atomic: Whether it is of more than one statement that must happen together.
        writes: Whether it changes anything.
        protected: Whether the caller may be cancelled, which has a price.

    Raises:
        Failure: The database did not do it.
    """
    try:
        return await database.attempt(work, atomic=atomic, writes=writes, protected=protected)
    except NotConnected as error:
        cause = error.__cause__ or error
        fault = Fault.UNDONE if fault_of(cause) is Fault.LOST else fault_of(cause)
        raise Failure(fault, connect_error(cause)) from cause
    except (SQLAlchemyError, OSError, asyncio.TimeoutError) as error:
        fault = fault_of(error)
        harmless = fault is Fault.LOST and not writes
        raise Failure(fault, persist_error(error, Fault.UNDONE if harmless else fault)) from error


async def read(database: Database, work: Work[T]) -> T:
    """Run one statement that changes nothing; a transient fault is tried again."""
    return await _repeat(database, work, atomic=False, writes=False, repeatable=True)


async def write(database: Database, work: Work[T], *, atomic: bool = False, repeatable: bool = True) -> T:
    """Run work that changes something, and commit it; a transient fault is tried again.

    Args:
        database: Where.
        work: What.
        atomic: Whether it is of more than one statement that must happen together.
        repeatable: Whether it may be run again when it may have happened already.
    """
    return await _repeat(database, work, atomic=atomic, writes=True, repeatable=repeatable)


async def unbounded(database: Database, work: Work[T]) -> T:
    """Run work that begins and commits by itself, such as a migration."""
    return await _repeat(database, work, atomic=True, writes=False, repeatable=True)


async def _repeat(database: Database, work: Work[T], *, atomic: bool, writes: bool, repeatable: bool) -> T:
    return await repeat(
        lambda: once(database, work, atomic=atomic, writes=writes),
        database.timeout,
        writes=writes,
        repeatable=repeatable,
    )


def refuse_if(closed: bool) -> None:
    """Raise `StoreClosed` if so."""
    if closed:
        raise StoreClosed("The store was closed.")
