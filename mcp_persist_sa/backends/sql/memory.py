"""Which streams a SQLite connection has found in their table, so that not each batch has to look again."""

from __future__ import annotations

import sqlite3
from collections.abc import Set

import sqlalchemy as sa

from mcp_persist_sa.direct import sqlite_driver

_MEMORY = "mcp_persist_sa memory of streams"
_MOST = 10_000


class Memory:
    """Holds until anything but a batch of events is written: here, or through another connection."""

    def __init__(self, driver: sqlite3.Connection | None) -> None:
        self._driver = driver
        self._keys: set[str] = set()
        self._changes = self._version = -1

    @classmethod
    def of(cls, connection: sa.Connection) -> Memory:
        """That of a connection; of one that is not ours, nothing is remembered."""
        driver = sqlite_driver(connection)
        if driver is None:
            return cls(None)
        memory: Memory = connection.info.setdefault(_MEMORY, cls(driver))
        memory.look()
        return memory

    def look(self) -> None:
        """Forget everything if anything else was written."""
        assert self._driver is not None
        (version,) = self._driver.execute("PRAGMA data_version").fetchone()
        if (self._driver.total_changes, version) != (self._changes, self._version):
            self._keys.clear()
        self._version = version

    def holds(self, keys: Set[str]) -> bool:
        """Whether all these streams are there."""
        return keys <= self._keys

    def learn(self, keys: Set[str]) -> None:
        """Take it that these streams are there, also if the transaction is rolled back."""
        if len(self._keys) + len(keys) > _MOST:
            self._keys.clear()
        if self._driver is not None:
            self._keys |= keys

    def written(self) -> None:
        """Take it that what was written up to now was a batch of events."""
        if self._driver is not None:
            self._changes = self._driver.total_changes
