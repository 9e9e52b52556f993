"""What a driver's error means: whether to try again, and what to tell the caller."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from enum import Enum
from random import random
from typing import TypeVar

import sqlalchemy.exc

from mcp_persist_sa.errors import (
    AccessDenied,
    InvalidDSN,
    InvalidInput,
    OutcomeUnknown,
    PersistError,
    SchemaError,
    SchemaForeign,
    StoreUnavailable,
)

T = TypeVar("T")


class DriverError(sqlalchemy.exc.SQLAlchemyError):
    """What a driver raised to whoever runs a statement on its own connection; the cause is the driver's error."""


class Fault(Enum):
    """What became of the work."""

    UNDONE = "nothing happened, and trying again may help"
    LOST = "it may have happened: the connection was lost before the answer"
    DENIED = "the database does not allow it"
    SCHEMA = "a table or column is missing"
    INPUT = "the database cannot hold the value"
    OTHER = "trying again would not help"


_UNDONE_STATES = {"40001", "40P01", "53000", "53100", "53200", "53300", "55006", "55P03", "57014", "57P03", "25006"}
_LOST_STATES = {"57P01", "57P02", "57P05"}
_DENIED_STATES = {"28000", "28P01", "42501", "3D000"}
_SCHEMA_STATES = {"42P01", "42703", "3F000"}
_LOST_WORDS = ("connection", "another operation")
"""asyncpg says the latter of a connection that the server has just ended, before it has noticed."""
_UNKNOWN_SETTING = "42704"
_SQLITE_UNDONE = ("locked", "busy", "disk is full", "disk I/O error", "unable to open")
_SQLITE_FOREIGN = "file is not a database"
_SQLITE_DENIED = ("readonly", "not authorized")
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column")


def fault_of(error: BaseException) -> Fault:
    """Tell what an error from a driver means."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
        return Fault.LOST
    root = _root(error)
    if isinstance(root, sqlite3.Error):
        return _sqlite_fault(root)
    state = getattr(root, "sqlstate", None)
    if isinstance(state, str):
        return _state_fault(state)
    if isinstance(error, sqlalchemy.exc.TimeoutError):
        return Fault.UNDONE
    if isinstance(root, TypeError):
        return Fault.OTHER
    if isinstance(root, OSError | EOFError | asyncio.TimeoutError):
        return Fault.LOST
    if any(words in str(root).lower() for words in _LOST_WORDS):
        return Fault.LOST
    return Fault.OTHER


def _state_fault(state: str) -> Fault:
    if state in _LOST_STATES or state.startswith("08"):
        return Fault.LOST
    if state in _UNDONE_STATES:
        return Fault.UNDONE
    if state in _DENIED_STATES:
        return Fault.DENIED
    if state in _SCHEMA_STATES:
        return Fault.SCHEMA
    return Fault.INPUT if state.startswith("22") else Fault.OTHER


def _sqlite_fault(error: sqlite3.Error) -> Fault:
    text = str(error)
    if any(words in text for words in _SQLITE_UNDONE):
        return Fault.UNDONE
    if any(words in text for words in _SQLITE_DENIED):
        return Fault.DENIED
    return Fault.SCHEMA if any(words in text for words in _SQLITE_SCHEMA) else Fault.OTHER


def _root(error: BaseException) -> BaseException:
    """The driver's own error, below what SQLAlchemy wraps around it; not the cancellation below a timeout."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    return error if error.__cause__ is None or isinstance(error, asyncio.TimeoutError) else error.__cause__


def describe(error: BaseException) -> str:
    """The driver's error on one line, without the statement and its values."""
    root = _root(error)
    lines = str(root).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(root).__name__


def persist_error(error: BaseException, fault: Fault) -> PersistError:
    """The error of ours for a fault that stays."""
    if isinstance(error, PersistError):
        return error
    said = describe(error)
    if fault is Fault.DENIED:
        return AccessDenied(f"The database refuses access: {said}. Check user, password, database and privileges.")
    if fault is Fault.LOST:
        return OutcomeUnknown(f"The connection was lost while writing, so the write may have happened or not: {said}.")
    if fault is Fault.SCHEMA:
        return SchemaError(f"The tables are not as this release needs them: {said}. Run `mcp-persist-sa check`.")
    if fault is Fault.INPUT:
        return InvalidInput(f"The database cannot hold the value: {said}.")
    if fault is Fault.UNDONE:
        return StoreUnavailable(f"The database is not available: {said}. Check that it runs and can be reached.")
    return PersistError(f"The database failed: {said}.")


def connect_error(error: BaseException) -> PersistError:
    """The error of ours for a connection that could not be made."""
    fault = fault_of(error)
    if (
        isinstance(_root(error), ValueError | TypeError | OverflowError)
        or getattr(_root(error), "sqlstate", "") == _UNKNOWN_SETTING
    ):
        return InvalidDSN(f"The driver does not accept the DSN or its arguments: {describe(error)}.")
    if describe(error) == _SQLITE_FOREIGN:
        return SchemaForeign(f"The {_SQLITE_FOREIGN}. Name another file.")
    return persist_error(error, Fault.UNDONE if fault is Fault.LOST else fault)


class NotConnected(Exception):
    """No connection could be made, so nothing happened; the cause says why."""


class Failure(Exception):
    """Work that failed: what became of it, and the error of ours that says so."""

    def __init__(self, fault: Fault, error: PersistError) -> None:
        super().__init__(str(error))
        self.fault = fault
        self.error = error


async def repeat(attempt: Callable[[], Awaitable[T]], timeout: float, *, writes: bool, repeatable: bool) -> T:
    """Try something that raises `Failure`, and again after a transient fault.

    Args:
        attempt: What.
        timeout: Seconds.
        writes: Whether it changes anything.
        repeatable: Whether it may be done again when it may have happened already.
    """
    failure: Failure | None = None
    async for _ in Backoff(timeout):
        try:
            return await attempt()
        except Failure as error:
            # What may have happened is not denied when a later attempt fails.
            if not (writes and failure is not None and isinstance(failure.error, OutcomeUnknown)):
                failure = error
            if error.fault is not Fault.UNDONE and not (error.fault is Fault.LOST and repeatable):
                break
    assert failure is not None
    raise failure.error from failure.__cause__


class Backoff:
    """Yields at once, and again after ever longer pauses of up to a second, until the time is over.

    It is no generator, because the event loop would start a task to close one that is left early.
    """

    def __init__(self, timeout: float) -> None:
        """Begin.

        Args:
            timeout: Seconds.
        """
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout
        self._pause = 0.0

    def __aiter__(self) -> Backoff:
        return self

    async def __anext__(self) -> None:
        pause, self._pause = self._pause, min(1.0, self._pause * 2) or 0.01
        if not pause:
            return
        left = self._deadline - self._loop.time()
        if left <= 0:
            raise StopAsyncIteration
        await asyncio.sleep(min(left, pause * (0.5 + random())))
