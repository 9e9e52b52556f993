"""Fixtures for the hunts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.databases import Database
from tests.hunts.support import HUNT, Pools
from tests.servers import FaultProxy
from tests.servers.dsns import Dsn


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give longer hunts more time."""
    for item in items:
        if item.path.parent.name == "hunts":
            item.add_marker(pytest.mark.timeout(300 * HUNT))


@pytest.fixture
def pools() -> Iterator[Pools]:
    """The connection pools of asyncio engines that are used during the test."""
    watch = Pools()
    with watch.watching():
        yield watch


@dataclass
class Proxied:
    """A Postgres database that the stores reach through a proxy."""

    direct: Database
    database: Database
    proxy: FaultProxy


@pytest.fixture
async def proxied(new_postgres: Callable[[], str]) -> AsyncIterator[Proxied]:
    """A migrated Postgres database behind a proxy."""
    dsn = new_postgres()
    server = Dsn.parse(dsn)
    async with FaultProxy(server.host, server.port) as proxy:
        made = Proxied(Database("postgres", dsn), Database("postgres", proxy.dsn(dsn)), proxy)
        yield made
        proxy.pass_through()
        await made.database.close()
        await made.direct.close()
