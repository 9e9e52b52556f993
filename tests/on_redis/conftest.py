"""Servers that a test may pause, kill and start again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from tests.servers.redis import Binary, RedisServer, binary_of

NewServer = Callable[..., RedisServer]

ALWAYS = {"appendonly": "yes", "appendfsync": "always", "repl-diskless-sync-delay": "0"}
EVERY_SECOND = {"appendonly": "yes", "appendfsync": "everysec"}
SNAPSHOTS = {"appendonly": "no", "save": "3600 1"}


@pytest.fixture(params=["valkey", "redis", "redis-6.2"])
def binary(request: pytest.FixtureRequest) -> Binary:
    """Each kind of server."""
    return binary_of(request.param)


@pytest.fixture
def new_server(binary: Binary) -> Iterator[NewServer]:
    """Starts servers of this test's own."""
    with ExitStack() as stack:

        def start(settings: Mapping[str, str] | None = None, **options: bool) -> RedisServer:
            return stack.enter_context(RedisServer(binary, settings, **options))

        yield start


@pytest.fixture
def server(new_server: NewServer) -> RedisServer:
    """A server that keeps everything."""
    return new_server({"appendonly": "yes", "appendfsync": "always"})


async def until(condition: Any) -> None:
    async def work() -> None:
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - another process cannot set an event
            await asyncio.sleep(0.01)

    await asyncio.wait_for(work(), 60)
