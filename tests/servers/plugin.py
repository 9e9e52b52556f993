"""The pytest plugin that brings the tests' servers; load it by `pytest_plugins = ["tests.servers.plugin"]`.

The server starts once per run, in the process that controls the workers of pytest-xdist, if there are any.
"""

from __future__ import annotations

import itertools
import os
import secrets
import signal
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytest

from . import chromium
from . import pgbouncer as pgbouncer_module
from .databases import Databases
from .launch import die_with_parent
from .pgbouncer import PgBouncer
from .postgres import PostgresServer
from .redis import (
    REDIS_DSN,
    REMEDIES,
    VALKEY_DSN,
    RedisCluster,
    RedisServer,
    binary_of,
    find_valkey,
    is_missing,
)
from .spawning import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

_HANDED_OVER = "mcp_persist_sa_servers"
_SERVER = pytest.StashKey[PostgresServer]()
_PREFIX = pytest.StashKey[str]()
_LOG_LINES_SHOWN = 40
_HASTY = {"fsync": "off", "full_page_writes": "off", "max_connections": "400"}
"""Of the server that nobody kills: nothing is read back from its disk. `own_postgres` writes as users have it."""


class _Worker(Protocol):
    """What pytest-xdist gives to `pytest_configure_node`."""

    config: pytest.Config
    workerinput: dict[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "pgbouncer: needs PgBouncer, which comes from the operating system")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if config.option.collectonly:
        return
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is not None:
        # A worker would go on for a while when its controller is killed, and its private servers with it.
        die_with_parent(signal.SIGKILL)
        handed_over = workerinput[_HANDED_OVER]
        config.stash[_SERVER] = PostgresServer.attach(handed_over)
        config.stash[_PREFIX] = f"{handed_over['prefix']}_{workerinput['workerid']}"
        return
    try:
        server = PostgresServer(settings=_HASTY)
        server.start()
    except ServerError as error:
        raise pytest.UsageError(str(error)) from error
    config.add_cleanup(server.close)
    config.stash[_SERVER] = server
    config.stash[_PREFIX] = f"test_{secrets.token_hex(4)}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: _Worker) -> None:
    stash = node.config.stash
    node.workerinput[_HANDED_OVER] = {**stash[_SERVER].hand_over(), "prefix": stash[_PREFIX]}


def pytest_report_header(config: pytest.Config) -> list[str]:
    server = config.stash.get(_SERVER, None)
    return [
        f"postgres: {server.choice if server else 'not started, tests are only collected'}",
        f"valkey: {os.environ.get(VALKEY_DSN) or find_valkey().path}",
        *map(str, _PROGRAMS),
    ]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for program in _PROGRAMS:
        if program.is_left_out:
            terminalreporter.write_line(str(program), yellow=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lacking = [program for program in _PROGRAMS if program.is_left_out]
    left_out = [item for item in items if any(program.needed_by(item) for program in lacking)]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


class _Program(NamedTuple):
    """What a machine may lack: then the tests that need it are left out, which the summary says; in CI they fail."""

    name: str
    find: Callable[[], object]
    remedy: str
    needed_by: Callable[[pytest.Item], bool]

    @property
    def is_left_out(self) -> bool:
        return self.find() is None and not os.environ.get("CI")

    def __str__(self) -> str:
        consequence = "were NOT run" if self.is_left_out else "fail"
        lacking = f"NOT FOUND, the tests that need it {consequence} ({self.remedy})"
        return f"{self.name}: {self.find() or lacking}"


def _redis_of(kind: str) -> object:
    given = os.environ.get(REDIS_DSN) if kind == "redis" else None
    return given or (None if is_missing(kind) else binary_of(kind).path)


def _needs_redis(kind: str, item: pytest.Item) -> bool:
    parameters: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return any(kind in (value if isinstance(value, tuple) else (value,)) for value in parameters.values())


def _needs(name: str, item: pytest.Item) -> bool:
    fixtures: list[str] = getattr(item, "fixturenames", [])
    return item.get_closest_marker(name) is not None or name in fixtures


_PROGRAMS = [
    _Program("pgbouncer", lambda: pgbouncer_module.find(), pgbouncer_module.REMEDY, partial(_needs, "pgbouncer")),
    _Program("chromium", lambda: chromium.find(), chromium.REMEDY, partial(_needs, "browser")),
    *(_Program(kind, partial(_redis_of, kind), REMEDIES[kind], partial(_needs_redis, kind)) for kind in REMEDIES),
]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for name, log in _logs(item):
            report.sections.append((f"log of {name}, its last lines", "\n".join(log.splitlines()[-_LOG_LINES_SHOWN:])))
    return report


def _logs(item: pytest.Item) -> Iterator[tuple[str, str]]:
    used: dict[str, Any] = getattr(item, "funcargs", {})
    fixtures: list[str] = getattr(item, "fixturenames", [])
    if "postgres_server" in fixtures and _SERVER in item.config.stash:
        yield "postgres_server", item.config.stash[_SERVER].log()
    for name, value in used.items():
        if isinstance(value, PgBouncer | RedisServer | RedisServers) or (
            name == "own_postgres" and isinstance(value, PostgresServer)
        ):
            yield name, value.log()


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> PostgresServer:
    """The server that all tests and workers share; not to be paused or stopped, see `own_postgres`."""
    return pytestconfig.stash[_SERVER]


@pytest.fixture(scope="session")
def postgres_template(pytestconfig: pytest.Config, postgres_server: PostgresServer) -> Iterator[Databases]:
    """Makes databases, templates and copies of templates; what was not dropped is dropped at the end of the run."""
    databases = Databases(postgres_server, pytestconfig.stash[_PREFIX])
    yield databases
    databases.close()


@pytest.fixture
def postgres_database(postgres_template: Databases) -> Iterator[str]:
    """The DSN of a fresh empty database."""
    dsn = postgres_template.create()
    yield dsn
    postgres_template.drop(dsn)


@pytest.fixture
def postgres_from_template(postgres_template: Databases) -> Iterator[Callable[[str], str]]:
    """A function that copies the template with a given name and returns the copy's DSN, for one test."""
    made: list[str] = []

    def clone(template: str) -> str:
        made.append(postgres_template.clone(template))
        return made[-1]

    yield clone
    for dsn in made:
        postgres_template.drop(dsn)


@pytest.fixture
def own_postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A private server for one test to pause, kill and start again; an indirect parameter gives it settings."""
    settings: dict[str, str] = getattr(request, "param", {})
    with PostgresServer(private=True, settings=settings) as server:
        yield server


class RedisServers:
    """The servers of one worker, each started when it is first asked for."""

    def __init__(self) -> None:
        self._started: dict[str, RedisServer | RedisCluster] = {}
        self._numbers = itertools.count(1)
        self._prefix = f"test_{secrets.token_hex(4)}"

    def new(self, kind: str) -> str:
        """The DSN of an empty key prefix."""
        given = os.environ.get({"valkey": VALKEY_DSN, "redis": REDIS_DSN}.get(kind, ""))
        dsn = given or self._server(kind).dsn
        return f"{dsn}{'&' if '?' in dsn else '?'}key_prefix={self._prefix}_{next(self._numbers)}"

    def _server(self, kind: str) -> RedisServer | RedisCluster:
        if kind not in self._started:
            # As a server should be: it would warn of itself otherwise.
            settings = {"appendonly": "yes", "appendfsync": "no", "auto-aof-rewrite-percentage": "0"}
            server = (RedisCluster if kind.endswith("-cluster") else RedisServer)(binary_of(kind), settings)
            server.start()
            self._started[kind] = server
        return self._started[kind]

    def log(self) -> str:
        return "\n".join(server.log() for server in self._started.values())

    def close(self) -> None:
        for server in self._started.values():
            server.close()


@pytest.fixture(scope="session")
def redis_servers() -> Iterator[RedisServers]:
    """Servers of Redis' kind, shared by the tests of this worker; not to be paused or stopped."""
    servers = RedisServers()
    yield servers
    servers.close()


@pytest.fixture
def new_redis(redis_servers: RedisServers) -> Callable[[str], str]:
    """Gives the DSN of an empty key prefix on a server of a kind."""
    return redis_servers.new


@pytest.fixture
def pgbouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode in front of the shared server, for one test."""
    if pgbouncer_module.find() is None:
        pytest.fail(pgbouncer_module.REMEDY)
    with PgBouncer(postgres_server) as bouncer:
        yield bouncer
