"""Nodes and clients for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mcp_persist_sa.migrate import upgrade
from tests.databases import REDIS, SQL
from tests.nodes import environments
from tests.nodes.balancer import Balancer
from tests.nodes.client import Client
from tests.nodes.cluster import Cluster
from tests.nodes.environments import LINE_OF, MODULES
from tests.nodes.forked import Parent
from tests.nodes.hosts import HOSTS
from tests.nodes.node import NewProcess, Node
from tests.nodes.wire import PATIENCE
from tests.servers import ChildProcess, Databases
from tests.servers.plugin import RedisServers

CLUSTERS = [
    *(pair for pair in product(HOSTS, SQL) if pair != ("lowlevel", "postgres")),
    *product(["mcpserver"], ["valkey", "redis", "valkey-cluster"]),
]
"""The low-level server differs from its MCPServer in how its app is made, which is no matter of the database."""

PATIENT = {"patience": PATIENCE}
"""A disk that is busy with other tests is no store that is away."""

Interpreter = Callable[[str], Path]


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    """Gives the interpreter of an SDK line."""
    return lambda line: environments.interpreter(line, tmp_path_factory)


ProcessOf = Callable[[str], NewProcess]


@pytest.fixture(scope="session")
def process_of(interpreter: Interpreter) -> Iterator[ProcessOf]:
    """Gives what makes the processes of a host's nodes."""
    parents: dict[str, Parent] = {}
    with ExitStack() as stack:

        def process_of(host: str) -> NewProcess:
            line = LINE_OF[host]
            if line not in parents:
                parents[line] = Parent(interpreter(line), MODULES[line])
                stack.callback(parents[line].close)
            return parents[line].node

        yield process_of


class Started:
    """Starts nodes, balancers and clients, all of which end with the test."""

    def __init__(self, interpreter: Interpreter, process_of: ProcessOf, stack: AsyncExitStack) -> None:
        self._interpreter = interpreter
        self._process_of = process_of
        self._stack = stack
        self.nodes: list[Node] = []

    async def node(self, host: str, **options: Any) -> Node:
        self.nodes.append(Node(self._process_of(host), host=host, **options))
        return await self._stack.enter_async_context(self.nodes[-1])

    async def balancer(self, *nodes: Node) -> Balancer:
        return await self._stack.enter_async_context(Balancer([node.address for node in nodes]))

    async def client(self, at: Node | Balancer, path: str = "/mcp", token: str | None = None) -> Client:
        return await self._stack.enter_async_context(Client(at.address, path, token))

    async def official(self, line: str, at: Node | Balancer, *token: str) -> ChildProcess:
        """The client of an SDK; see `tests.nodes.official` for how to talk with it."""
        url = f"http://{at.address[0]}:{at.address[1]}/mcp"
        words = ("-m", "tests.nodes.official", line, url, *token)
        interpreter = self._interpreter("mcp2" if line == "stateless" else line)
        child = ChildProcess(*words, interpreter=interpreter, timeout=PATIENCE)
        return await self._stack.enter_async_context(child)


@pytest_asyncio.fixture(loop_scope="session")
async def started(interpreter: Interpreter, process_of: ProcessOf) -> AsyncIterator[Started]:
    async with AsyncExitStack() as stack:
        yield Started(interpreter, process_of, stack)


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=CLUSTERS, ids=lambda param: "-".join(param))
async def _shared_cluster(
    request: pytest.FixtureRequest,
    process_of: ProcessOf,
    tmp_path_factory: pytest.TempPathFactory,
    postgres_template: Databases,
    redis_servers: RedisServers,
) -> AsyncIterator[Cluster]:
    host, kind = request.param
    if kind == "postgres":
        dsn = postgres_template.clone(postgres_template.template("migrated", upgrade))
    elif kind in REDIS:
        dsn = redis_servers.new(kind)
    else:
        dsn = f"sqlite:///{tmp_path_factory.mktemp('cluster') / 'store.db'}"
    # Whoever waits for the death of a node waits for its lease.
    dsn = f"{dsn}{'&' if '?' in dsn else '?'}node_lease=5&poll_interval=0.5"
    async with Cluster(process_of(host), host, dsn, persistence=PATIENT) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(_shared_cluster: Cluster) -> AsyncIterator[Cluster]:
    """Two nodes of each host on each database; tests share them, and each opens sessions of its own."""
    await _shared_cluster.ready()
    yield _shared_cluster
    await _shared_cluster.leave()


MakeCluster = Callable[..., Awaitable[Cluster]]


@pytest_asyncio.fixture(loop_scope="session", params=HOSTS)
async def make_cluster(
    request: pytest.FixtureRequest, process_of: ProcessOf, tmp_path: Path
) -> AsyncIterator[MakeCluster]:
    """Gives two nodes of each host with options of the test's own; the database matters to none of these."""
    async with AsyncExitStack() as stack:

        async def make(query: str = "", **options: Any) -> Cluster:
            host = request.param
            dsn = f"sqlite:///{tmp_path / 'store.db'}?{query}"
            cluster = Cluster(process_of(host), host, dsn, **{"persistence": PATIENT, **options})
            return await stack.enter_async_context(cluster)

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the nodes of a failed test wrote to their standard errors."""
    report = yield
    if report.failed:
        arguments: dict[str, Any] = getattr(item, "funcargs", {})
        users = [value for value in arguments.values() if isinstance(value, Started | Cluster)]
        for node in dict.fromkeys(node for user in users for node in user.nodes):
            lines = node.errors().splitlines()[-40:]
            report.sections.append((f"errors of {node.name}, the last lines", "\n".join(lines)))
    return report
