"""PgBouncer in transaction mode in front of a test server."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from . import admin, dsns
from .spawning import ServerError, free_port, poll, private_folder, spawn, unprivileged

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

    from .postgres import PostgresServer

REMEDY = "PgBouncer is not found: apt-get install pgbouncer, or put `pgbouncer` on PATH"


def find() -> Path | None:
    """Return PgBouncer's binary, None where there is none."""
    found = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    return Path(found) if found else None


class PgBouncer:
    """A pooler whose few server connections go round among its clients, from one transaction to the next."""

    host = "127.0.0.1"

    def __init__(
        self, postgres: PostgresServer, *, pool_size: int = 4, settings: Mapping[str, str] | None = None
    ) -> None:
        self.port = 0
        self._target = dsns.Dsn.parse(postgres.dsn())
        self._settings = {"default_pool_size": str(pool_size), **(settings or {})}
        self._account = unprivileged()
        self._home = private_folder("pgbouncer", self._account)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_path = Path(self._home.name, "pgbouncer.log")

    def __enter__(self) -> PgBouncer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._home.cleanup()

    def dsn(self, server_dsn: str) -> str:
        """Return the DSN that reaches the same database through PgBouncer."""
        return dsns.at(server_dsn, self.host, self.port)

    def start(self) -> None:
        binary = find()
        if binary is None:
            raise ServerError(REMEDY)
        self.port = free_port()
        configuration = self._write_configuration()
        self._process = spawn([binary, configuration], signal.SIGKILL, self._account, self._log_path)
        try:
            poll(self._is_ready, "PgBouncer accepts a connection")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once: it has nothing to save, and its polite ways to end differ from version to version."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def log(self) -> str:
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"PgBouncer ended at once; its log:\n{self.log()}")
        return admin.accepts_connections(self.dsn(str(self._target)))

    def _write_configuration(self) -> Path:
        users = Path(self._home.name, "users.txt")
        users.write_text(f"{_in_quotes(self._target.user)} {_in_quotes(self._target.password)}\n")
        options = {
            "listen_addr": self.host,
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            # The file holds the password in clear, so it serves for the client's login and for the server's.
            "auth_type": "scram-sha-256" if self._target.password else "trust",
            "auth_file": str(users),
            "admin_users": self._target.user,
            "pool_mode": "transaction",
            "max_client_conn": "500",
            "server_round_robin": "1",
            **self._settings,
        }
        lines = [f"* = host={self._target.host} port={self._target.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in options.items()]
        configuration = Path(self._home.name, "pgbouncer.ini")
        configuration.write_text("\n".join(["[databases]", *lines, ""]))
        for path in (users, configuration):
            path.chmod(0o600)
            if self._account:
                os.chown(path, *self._account)
        return configuration


def _in_quotes(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
