"""The PostgreSQL server of the tests: one that runs already, or one of our own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import admin
from .binaries import DSN_VARIABLE, find_binaries
from .cluster import Cluster
from .dsns import Dsn
from .spawning import ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping


class PostgresServer:
    """A PostgreSQL server with a superuser; a private one can also be paused, killed and started again.

    `private=True` starts a server even when the environment names a running one.
    """

    def __init__(self, *, private: bool = False, settings: Mapping[str, str] | None = None) -> None:
        given = None if private else os.environ.get(DSN_VARIABLE)
        self._cluster = None if given else Cluster(find_binaries(), settings or {})
        self._given = Dsn.parse(given) if given else None
        self._log_path = self._cluster and self._cluster.log_path
        self.choice = ""

    @classmethod
    def attach(cls, handed_over: Mapping[str, str]) -> PostgresServer:
        """Return a server that another process has started and described by `hand_over`."""
        server = cls.__new__(cls)
        server._cluster = None
        server._given = Dsn.parse(handed_over["dsn"])
        server._log_path = Path(handed_over["log"]) if handed_over["log"] else None
        server.choice = handed_over["choice"]
        return server

    def hand_over(self) -> dict[str, str]:
        return {"dsn": self.dsn(), "choice": self.choice, "log": str(self._log_path or "")}

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _address(self) -> Dsn:
        address = self._cluster.dsn if self._cluster else self._given
        assert address is not None
        return address

    @property
    def host(self) -> str:
        return self._address.host

    @property
    def port(self) -> int:
        return self._address.port

    @property
    def pid(self) -> int:
        """The postmaster's process number."""
        return self._own().pid

    @property
    def folder(self) -> Path:
        """The temporary folder with everything that a private server writes: `data` and `server.log`."""
        return self._own().home

    def dsn(self, database: str | None = None, user: str | None = None, password: str | None = None) -> str:
        """Return a `postgresql://` DSN: the superuser's, for the maintenance database, unless told otherwise."""
        base = self._address
        return str(
            base._replace(
                database=database or base.database,
                user=user or base.user,
                password=base.password if password is None else password,
            )
        )

    def start(self) -> None:
        """Start the server, or start it again on the same port and data after `stop` or `kill`."""
        if self._cluster is None:
            self._describe_given()
            return
        try:
            self._cluster.start()
        except BaseException:
            self._cluster.remove()
            raise
        self.choice = f"{self._cluster.description}, started at {self.host}:{self.port}"

    def _describe_given(self) -> None:
        place = f"{self.host}:{self.port}"
        try:
            version = admin.fetch_value(self.dsn(), "SHOW server_version")
        except Exception as error:
            raise ServerError(f"{DSN_VARIABLE}: the server at {place} cannot be used: {error!r}") from error
        self.choice = f"PostgreSQL {version} at {place}, running already ({DSN_VARIABLE})"

    def stop(self) -> None:
        """Shut a private server down and keep its data; one that ran already is left running."""
        if self._cluster:
            self._cluster.stop()

    def close(self) -> None:
        """Stop a private server and remove everything it has written."""
        if self._cluster:
            self._cluster.remove()

    def kill(self) -> None:
        """End every process by SIGKILL; `start` recovers the data."""
        self._own().kill()

    def pause(self) -> None:
        """Freeze every process: connections stay open and nothing answers until `resume`."""
        self._own().pause()

    def resume(self) -> None:
        self._own().resume()

    def log(self) -> str:
        """Return the server's log."""
        if self._log_path is None:
            return f"(the log of {self.choice} is not at hand)"
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, a copy of `template` if given, and return its DSN."""
        source = f" TEMPLATE {admin.quoted(template)}" if template else ""
        admin.execute(self.dsn(), f"CREATE DATABASE {admin.quoted(name)}{source}")
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, whoever is connected to it."""
        admin.execute(self.dsn(), f"DROP DATABASE IF EXISTS {admin.quoted(name)} WITH (FORCE)")

    def _own(self) -> Cluster:
        if self._cluster is None:
            raise ServerError("a shared server is not to be paused or killed: use the fixture own_postgres")
        return self._cluster
