"""A private PostgreSQL cluster: its directory, its password and its processes."""

from __future__ import annotations

import ctypes
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import admin
from .binaries import Binaries, runnable
from .dsns import Dsn
from .spawning import (
    ServerError,
    family,
    free_port,
    is_alive,
    is_stopped,
    poll,
    private_folder,
    run,
    send,
    spawn,
    unprivileged,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "on",
    # Files in the data directory: a killed server leaves nothing in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "log_line_prefix": "%m [%p] %d ",
}


class Cluster:
    """One server of our own, on a loopback port, that can be stopped, killed, paused and started again."""

    def __init__(self, binaries: Binaries, settings: Mapping[str, str]) -> None:
        self.folder, version = runnable(binaries)
        self.description = f"{version} from {binaries.source} ({binaries.folder})"
        self._account = unprivileged()
        self._settings = {**_SETTINGS, **settings}
        self._home = private_folder("postgres", self._account)
        self.home = Path(self._home.name)
        self._data = self.home / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self.log_path = self.home / "server.log"
        self.dsn = Dsn("postgres", secrets.token_hex(8), "127.0.0.1", 0, "postgres", "")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("this PostgreSQL server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server: on a free port the first time, on the same port and data from then on."""
        if self._process is not None:
            return
        if self._data.exists():
            self._launch(self.dsn.port)
            self._wait_until_ready()
        else:
            self._initialise()
            self._start_on_a_free_port()

    def _start_on_a_free_port(self, attempts: int = 5) -> None:
        self._launch(free_port())
        try:
            self._wait_until_ready()
        except ServerError:
            # Another process took the port between the choice and the server's bind.
            if attempts == 1 or "could not bind" not in self.log():
                raise
            self._start_on_a_free_port(attempts - 1)

    def _initialise(self) -> None:
        password = self.home / "password"
        password.write_text(self.dsn.password)
        # initdb runs as another account when the tests run as root.
        password.chmod(0o644)
        done = run(
            [
                self.folder / "initdb",
                *("--pgdata", self._data, "--username", self.dsn.user, "--pwfile", password),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync"),
            ],
            self._account,
            self.home,
        )
        if done.returncode:
            raise ServerError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def _launch(self, port: int) -> None:
        self.dsn = self.dsn._replace(port=port)
        options = [option for name, value in self._settings.items() for option in ("-c", f"{name}={value}")]
        argv = [self.folder / "postgres", "-D", self._data, "-p", str(port), *options]
        # SIGQUIT shuts down at once; SIGTERM would wait for clients that may have outlived the tests.
        self._process = spawn(argv, signal.SIGQUIT, self._account, self.log_path)

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            if self._process is None or self._process.poll() is not None:
                self._process = None
                raise ServerError(f"PostgreSQL ended at once; its log:\n{self.log()}")
            return admin.accepts_connections(str(self.dsn))

        try:
            poll(ready, "PostgreSQL accepts a connection", timeout=30)
        except BaseException:
            self.kill()
            raise

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def stop(self) -> None:
        """Shut the server down and keep its data: clients are disconnected, a checkpoint is written."""
        if self._process is None:
            return
        self.resume()
        for number, patience in ((signal.SIGINT, 20), (signal.SIGQUIT, 10)):
            send(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            self._process = None
            return
        self.kill()

    def kill(self) -> None:
        """End every process of the server by SIGKILL, as a power cut would; the data stay for the next start."""
        if self._process is None:
            return
        # A stopped postmaster starts no process that the list below would miss.
        send(self._process.pid, signal.SIGSTOP)
        poll(lambda: is_stopped(self.pid), "PostgreSQL's postmaster is stopped")
        members = family(self._process.pid)
        for pid in members:
            send(pid, signal.SIGKILL)
        self._process.wait(10)
        # The next start refuses while an old process still has the shared memory.
        poll(lambda: not any(is_alive(pid) for pid in members), "PostgreSQL's processes are gone")
        self._process, self._paused = None, False

    def pause(self) -> None:
        """Stop every process of the server: connections stay open, nothing answers."""
        send(self.pid, signal.SIGSTOP)
        poll(lambda: is_stopped(self.pid), "PostgreSQL's postmaster is stopped")
        members = family(self.pid)
        for pid in members:
            send(pid, signal.SIGSTOP)
        poll(lambda: all(is_stopped(pid) for pid in members), "PostgreSQL's processes are stopped")
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            for pid in reversed(family(self.pid)):
                send(pid, signal.SIGCONT)
            self._paused = False

    def remove(self) -> None:
        """Stop the server and remove its directory."""
        self.stop()
        self._remove_shared_memory()
        self._home.cleanup()

    def _remove_shared_memory(self) -> None:
        """Free the System V segment that a killed server leaves; a restarted one does it itself."""
        pid_file = self._data / "postmaster.pid"
        lines = pid_file.read_text().splitlines() if pid_file.exists() else []
        if sys.platform == "linux" and len(lines) > 6 and lines[6].split():
            ipc_rmid = 0
            ctypes.CDLL(None).shmctl(int(lines[6].split()[-1]), ipc_rmid, None)
