"""Databases for tests: fresh ones, and quick copies of one that has been prepared once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from . import admin
from .dsns import Dsn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .postgres import PostgresServer


class Databases:
    """Makes databases on one server, named so that no other process of this or of another run uses the same names."""

    def __init__(self, server: PostgresServer, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._numbers = itertools.count(1)
        self._templates: dict[str, str] = {}
        self._present: set[str] = set()

    def create(self) -> str:
        """Create an empty database and return its DSN."""
        return self._create(None)

    def clone(self, template: str) -> str:
        """Create a copy of the database with this name, to which nobody may be connected, and return its DSN."""
        return self._create(template)

    def template(self, key: str, prepare: Callable[[str], Awaitable[object] | object]) -> str:
        """Return the name of a database to clone, which `prepare(dsn)` has filled the first time `key` was asked for.

        `prepare` may be async; it runs in a thread of its own, and must close its connections.
        """
        if key not in self._templates:
            dsn = self.create()
            admin.run_apart(lambda: prepare(dsn))
            name = Dsn.parse(dsn).database
            # A connection to a template makes CREATE DATABASE wait for 5 s and fail.
            admin.execute(self._server.dsn(), f"ALTER DATABASE {admin.quoted(name)} ALLOW_CONNECTIONS false")
            self._templates[key] = name
        return self._templates[key]

    def drop(self, dsn: str) -> None:
        """Drop a database that was made here, whoever is connected to it."""
        name = Dsn.parse(dsn).database
        self._server.drop_database(name)
        self._present.discard(name)

    def close(self) -> None:
        """Drop what is left."""
        for name in sorted(self._present):
            self._server.drop_database(name)
        self._present.clear()
        self._templates.clear()

    def _create(self, template: str | None) -> str:
        name = f"{self._prefix}_{next(self._numbers)}"
        dsn = self._server.create_database(name, template)
        self._present.add(name)
        return dsn
