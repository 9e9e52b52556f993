"""LISTEN and NOTIFY, on a connection beside those of the calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import Any

import sqlalchemy as sa
from anyio import move_on_after
from sqlalchemy.engine import AdaptedConnection

from mcp_persist_sa.apart import Run
from mcp_persist_sa.database import Database, once
from mcp_persist_sa.faults import Fault, describe, fault_of
from mcp_persist_sa.hints import Waiter
from mcp_persist_sa.notifiers.unsent import hints_in
from mcp_persist_sa.notifiers.wired import WiredFanOut
from mcp_persist_sa.options import Options
from mcp_persist_sa.timing import time_limit

logger = logging.getLogger(__name__)

_PROBE_INTERVAL = 30.0
_ECHO_PATIENCE = 3.0
_NOTIFY = sa.select(sa.func.pg_notify(sa.bindparam("to", type_=sa.Text()), sa.bindparam("message", type_=sa.Text())))
_COMPARISONS = 3
_REST = 0.003
"""Seconds between messages: under load, many commits share one, which costs both sides as much as a small commit."""

_POOLED = "a pooler in transaction mode stands between"
_DEAF = "nothing arrives of what is sent"


class PostgresNotifier(WiredFanOut):
    """Hears other processes on a channel, and tells them there.

    Through a pooler in transaction mode, LISTEN succeeds and hears nothing; so each connection is probed: what is sent
    through another one has to arrive.
    """

    def __init__(self, database: Database, options: Options) -> None:
        super().__init__(options.poll_interval)
        self._database = database
        self._schema = options.schema
        self._namespace = options.namespace
        self._channel = ""
        self._attended = asyncio.Event()
        self._echo = asyncio.Event()
        self._warned = False

    @contextmanager
    def listen(self, session_key: str) -> Generator[Waiter, None, None]:
        with super().listen(session_key) as waiter:
            self._attended.set()
            yield waiter

    # The connection

    async def _one_connection(self) -> None:
        over = asyncio.Event()
        async with self._database.apart() as run:
            async with time_limit(self._database.timeout):
                refusal = await self._attach(run, over)
            await self._until_over(over, partial(self._send, run), partial(self._probe, refusal))

    async def _attach(self, run: Run, over: asyncio.Event) -> str | None:
        """Listen; give the reason where that cannot be."""
        schema = self._schema or await run(_schema)
        name = f"{schema}\0{self._namespace}".encode()
        self._channel = f"mcp_persist_sa_{blake2b(name, digest_size=12).hexdigest()}"
        await run(partial(_on_driver, call=partial(_watch, over=over)))
        # A pooler would go on hearing for us, in vain, so it is not even asked.
        return _POOLED if await self._is_pooled(run) else await run(self._listen)

    async def _is_pooled(self, run: Run) -> bool:
        """Whether connections do not keep their server process, or share it."""
        greeted, served = await run(_servers)
        if greeted == served:
            return False
        mine, others = {served}, set[int]()
        for _ in range(_COMPARISONS):
            others.add((await once(self._database, _servers, atomic=False, writes=False))[1])
            mine.add((await run(_servers))[1])
        return len(mine) > 1 or not mine.isdisjoint(others)

    def _listen(self, connection: sa.Connection) -> str | None:
        try:
            _on_driver(connection, lambda driver: driver.add_listener(self._channel, self._hear))
        except Exception as error:
            if fault_of(error) is Fault.LOST:
                raise
            return describe(error)
        return None

    def _hear(self, _connection: object, _pid: int, _channel: str, message: str) -> None:
        sender, _, hints = message.partition("\n")
        if sender != self._sender:
            self._wake(hints_in(hints) if self._waiters else set())
        elif not hints:
            self._echo.set()

    async def _send(self, run: Run) -> None:
        # Every character is of our making, and a statement without parameters is the cheapest for both sides.
        notify = f"NOTIFY {self._channel}, '{self._sender}"
        while True:
            hints = await self._unsent.take()
            async with time_limit(self._database.timeout):
                await run(partial(_on_driver, call=partial(_send, statement=f"{notify}\n{hints}'")))
            await asyncio.sleep(_REST)

    async def _probe(self, refusal: str | None) -> None:
        """Find out whether anything is heard, and again after a while; return where another connection might."""
        while True:
            deaf = refusal or await self._deafness()
            if deaf and self._mode == "listening":
                return
            self._judge(deaf)
            await asyncio.sleep(_PROBE_INTERVAL)
            if not self._waiters:
                self._attended.clear()
            await self._attended.wait()
            if deaf:
                return

    async def _deafness(self) -> str | None:
        """Send something through another connection; give the reason where it does not arrive."""
        self._echo.clear()
        begin = monotonic()
        tell = partial(_notify, to=self._channel, message=self._sender)
        await once(self._database, tell, atomic=False, writes=True)
        with move_on_after(_ECHO_PATIENCE):
            await self._echo.wait()
            self._lag = monotonic() - begin
        return None if self._echo.is_set() else _DEAF

    def _judge(self, deaf: str | None) -> None:
        self._now_judged()
        if self._mode == "reconnecting":
            self._reconnects += 1
        if deaf and not self._warned:
            logger.warning(
                "LISTEN does not work here: %(why)s. Events of other processes are polled for.", {"why": deaf}
            )
        self._warned = deaf is not None
        self._become("polling" if deaf else "listening")


def _schema(connection: sa.Connection) -> str | None:
    return connection.scalar(sa.select(sa.func.current_schema()))


def _servers(connection: sa.Connection) -> tuple[int, int]:
    """The server process that greeted the driver, and the one that answers it."""
    driver: Any = _adapted(connection).driver_connection
    return driver.get_server_pid(), connection.scalar(sa.select(sa.func.pg_backend_pid())) or 0


def _on_driver(connection: sa.Connection, call: Callable[[Any], Awaitable[None]]) -> None:
    _adapted(connection).run_async(call)


def _adapted(connection: sa.Connection) -> AdaptedConnection:
    adapted = connection.connection.dbapi_connection
    assert isinstance(adapted, AdaptedConnection)
    return adapted


async def _watch(driver: Any, over: asyncio.Event) -> None:
    def end(_: object) -> None:
        over.set()

    driver.add_termination_listener(end)


async def _send(driver: Any, statement: str) -> None:
    await driver.execute(statement)


def _notify(connection: sa.Connection, to: str, message: str) -> None:
    connection.execute(_NOTIFY, {"to": to, "message": message})
