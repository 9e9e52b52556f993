"""Pub/sub, on a connection beside those of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import blake2b
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from mcp_persist_sa.clients import Client
from mcp_persist_sa.hints import Hint
from mcp_persist_sa.notifiers.unsent import hints_in
from mcp_persist_sa.notifiers.wired import WiredFanOut
from mcp_persist_sa.options import Options
from mcp_persist_sa.timing import time_limit

_PING_INTERVAL = 15.0
_MOST_KEPT = 10_000
"""Hints that wait for a connection; if there are more, everybody looks again."""

_ANYBODY = Hint("?")
"""Says that somebody is new on the channel."""

_LOOK_AGAIN = Hint("!")
"""Says that hints were told to nobody."""


class _Silent(RedisError):
    """The connection does not answer."""


class RedisNotifier(WiredFanOut):
    """Hears other processes on a channel, and tells them there.

    While nobody else is on the channel, nothing is told; whoever comes says so. In a cluster the channel is of one
    shard, so that not every server is told.
    """

    def __init__(self, client: Client, options: Options) -> None:
        super().__init__(options.poll_interval)
        self._client: Any = client
        self._is_cluster = not isinstance(client, Redis)
        self._timeout = options.timeout
        name = blake2b(options.namespace.encode(), digest_size=12).hexdigest()
        self._channel = f"{{{options.key_prefix}:hints:{name}}}"
        self._has_audience = True
        self._newcomers = 0
        self._kept = 0
        self._untold = False

    def notify(self, hints: Collection[Hint]) -> None:
        if self._is_to_tell(len(hints)):
            super().notify(hints)
        else:
            self._untold = True
            self._wake(hints)
            self._run()

    def _is_to_tell(self, count: int) -> bool:
        """Whether somebody hears it, or may do so soon."""
        if self._mode == "listening":
            return self._has_audience
        self._kept += count
        return self._kept <= _MOST_KEPT

    # The connection

    async def _one_connection(self) -> None:
        over, heard = asyncio.Event(), asyncio.Event()
        async with self._subscribed() as subscription:
            await self._until_over(over, partial(self._hear, subscription, heard), partial(self._send, heard))

    async def _hear(self, subscription: Any, heard: asyncio.Event) -> None:
        is_asked = False
        while True:
            message = await subscription.get_message(timeout=_PING_INTERVAL)
            if message is None and is_asked:
                raise _Silent(f"no answer for {_PING_INTERVAL:g} s")
            is_asked = message is None
            if message is None:
                await subscription.ping()
            elif message["type"] in ("subscribe", "ssubscribe"):
                self._now_heard()
                heard.set()
            elif message["type"] in ("unsubscribe", "sunsubscribe"):
                raise _Silent("the channel has moved to another server")
            elif message["type"] in ("message", "smessage"):
                self._take(message["data"])

    def _now_heard(self) -> None:
        """Something may have been missed before, also where the driver has connected again by itself."""
        self._now_judged()
        if self._mode != "polling":
            self._reconnects += 1
        if self._mode == "listening":
            self._wake_all()
        self._become("listening")
        self._has_audience = True
        self._kept = 0
        self._unsent.add({_ANYBODY})
        self._tell_of_the_untold()

    def _tell_of_the_untold(self) -> None:
        if self._untold:
            self._untold = False
            self._unsent.add({_LOOK_AGAIN})

    def _take(self, data: bytes | str) -> None:
        text = data.decode(errors="replace") if isinstance(data, bytes) else data
        sender, _, hints = text.partition("\n")
        if sender == self._sender:
            return
        some = hints_in(hints)
        if _ANYBODY in some:
            self._has_audience = True
            self._newcomers += 1
            self._tell_of_the_untold()
        if _LOOK_AGAIN in some:
            self._wake_all()
        self._wake(some)

    async def _send(self, heard: asyncio.Event) -> None:
        await heard.wait()
        publish = self._client.spublish if self._is_cluster else self._client.publish
        while True:
            hints = await self._unsent.take()
            newcomers = self._newcomers
            async with time_limit(self._timeout):
                heard_by = await publish(self._channel, f"{self._sender}\n{hints}")
            # This process hears itself.
            self._has_audience = heard_by > 1 or self._newcomers > newcomers

    @asynccontextmanager
    async def _subscribed(self) -> AsyncGenerator[Any, None]:
        client, own = await self._client_of_channel()
        subscription = client.pubsub()
        try:
            async with time_limit(self._timeout):
                await (subscription.ssubscribe if self._is_cluster else subscription.subscribe)(self._channel)
            yield subscription
        finally:
            with suppress(RedisError, OSError):
                await subscription.aclose()
                if own:
                    await client.aclose(close_connection_pool=True)

    async def _client_of_channel(self) -> tuple[Any, bool]:
        """A client of the server that has the channel, and whether it has to be closed."""
        if not self._is_cluster:
            return self._client, False
        await self._client.initialize()
        node = self._client.get_node_from_key(self._channel)
        arguments = {**node.connection_kwargs, "host": node.host, "port": node.port}
        return Redis.from_pool(ConnectionPool(connection_class=node.connection_class, **arguments)), True
