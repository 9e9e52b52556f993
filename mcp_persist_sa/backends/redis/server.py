"""How scripts are run on the server: bounded in time, and again after a passing fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from mcp_persist_sa.backends.redis.callers import Callers
from mcp_persist_sa.backends.redis.faults import fault_of
from mcp_persist_sa.backends.redis.scripts import Script
from mcp_persist_sa.database import refuse_if
from mcp_persist_sa.errors import OutcomeUnknown, PersistError
from mcp_persist_sa.faults import Failure, Fault, NotConnected, describe, persist_error, repeat
from mcp_persist_sa.models import PoolHealth
from mcp_persist_sa.timing import time_limit

T = TypeVar("T")

_WAIT_MILLISECONDS = 1000

Value = str | bytes | int


class Call(NamedTuple):
    """A script, the keys by which a cluster finds the server, and what else it is given."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Value]


class Durability:
    """What must have become of a write before it is acknowledged."""

    def __init__(self, *, replicas: int, on_disk: bool) -> None:
        self._replicas = replicas
        self._on_disk = on_disk
        self.command: list[Value] | None = None
        if on_disk:
            self.command = ["WAITAOF", 1, replicas, _WAIT_MILLISECONDS]
        elif replicas:
            self.command = ["WAIT", replicas, _WAIT_MILLISECONDS]

    def check(self, reached: Any) -> None:
        """Raise where the write has not come as far as it must."""
        if isinstance(reached, Exception):
            raise reached
        local, replicas = reached if self._on_disk else (1, reached)
        if local < 1 or replicas < self._replicas:
            disk = ", nor is it on disk" if local < 1 else ""
            raise OutcomeUnknown(f"It is written, but only {replicas} of {self._replicas} replicas have it{disk}.")


class Wire(Protocol):
    """A way to the server.

    Attributes:
        is_split: Whether keys are on several servers, so that a script has to keep to those of one slot.
        callers: Who uses it.
    """

    is_split: bool
    callers: Callers

    async def exchange(self, commands: Sequence[Sequence[Value]]) -> list[Any]:
        """Send scripts together, and give the answers; an error that the server answers stands in its place.

        Raises:
            NotConnected: There is no connection.
            RedisError: The connection was lost.
            RedisClusterException: No server has the keys.
        """
        ...

    async def ask(self, commands: Sequence[Sequence[Value]]) -> list[list[Any]]:
        """Send commands to each server, and give the answers of each. Raises as `exchange`."""
        ...

    def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """All keys that match a pattern, some at a time."""
        ...

    async def close(self) -> None:
        """Give back what was taken."""
        ...


class Server:
    """Runs scripts."""

    def __init__(self, wire: Wire, *, timeout: float, durability: Durability) -> None:
        self._wire = wire
        self._durability = durability
        self._timeout = timeout
        self._closed = False

    @property
    def is_split(self) -> bool:
        """Whether a script has to keep to the keys of one slot."""
        return self._wire.is_split

    def pool(self) -> PoolHealth:
        """How busy the connections are."""
        return self._wire.callers.health()

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """All keys that match a pattern, some at a time."""
        pages = self._wire.scan(pattern)
        try:
            while True:
                yield await self._attempt(pages.__anext__, writes=False)
        except StopAsyncIteration:
            return
        except Failure as failure:
            raise failure.error from failure.__cause__

    async def read(self, *calls: Call) -> list[Any]:
        """Run scripts that change nothing, each by itself, and give what they return."""
        return await self._repeat(calls, writes=False, repeatable=True)

    async def write(self, *calls: Call, repeatable: bool = True) -> list[Any]:
        """Run scripts that change something, each by itself; with `repeatable`, also when they may have run already."""
        return await self._repeat(calls, writes=True, repeatable=repeatable)

    async def _repeat(self, calls: Sequence[Call], *, writes: bool, repeatable: bool) -> list[Any]:
        attempt = partial(self.once, calls, writes=writes)
        return await repeat(attempt, self._timeout, writes=writes, repeatable=repeatable)

    async def ask(self, *commands: Sequence[Value]) -> list[list[Any]]:
        """Send commands that change nothing to each server; an error that it answers stands in the answer's place."""

        async def attempt() -> list[list[Any]]:
            return await self._attempt(lambda: self._wire.ask(commands), writes=False)

        return await repeat(attempt, self._timeout, writes=False, repeatable=True)

    async def once(self, calls: Sequence[Call], *, writes: bool = True) -> list[Any]:
        """Run scripts one time.

        Raises:
            Failure: The server did not do it.
        """
        return await self._attempt(lambda: self._exchange(calls, writes=writes), writes=writes)

    async def _attempt(self, exchange: Callable[[], Awaitable[T]], *, writes: bool) -> T:
        refuse_if(self._closed)
        try:
            async with time_limit(self._timeout):
                return await exchange()
        except NotConnected as error:
            cause = error.__cause__ or error
            fault = fault_of(cause)
            raise _failure(cause, Fault.UNDONE if fault is Fault.LOST else fault) from cause
        except OutcomeUnknown as error:
            raise Failure(Fault.LOST, error) from error
        except (RedisError, RedisClusterException, OSError, asyncio.TimeoutError, TimeoutError) as error:
            fault = fault_of(error)
            raise _failure(error, Fault.UNDONE if fault is Fault.LOST and not writes else fault) from error

    async def _exchange(self, calls: Sequence[Call], *, writes: bool) -> list[Any]:
        answers = await self._together([_command("EVALSHA", call.script.digest, call) for call in calls], writes=writes)
        unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:
            commands = [_command("EVAL", calls[place].script.source, calls[place]) for place in unknown]
            for place, answer in zip(unknown, await self._together(commands, writes=writes), strict=True):
                answers[place] = answer
        errors = [answer for answer in answers if isinstance(answer, Exception)]
        if writes and 0 < len(errors) < len(answers):
            # The fault says whether to try again, and not that nothing happened.
            partly = OutcomeUnknown(f"A part of it is written, and another is not: {describe(errors[0])}.")
            raise Failure(fault_of(errors[0]), partly) from errors[0]
        if errors:
            raise errors[0]
        return answers

    async def _together(self, commands: list[list[Value]], *, writes: bool) -> list[Any]:
        """Send commands, and what waits until they are as durable as they must be."""
        if not writes or self._durability.command is None:
            return await self._wire.exchange(commands)
        *answers, reached = await self._wire.exchange([*commands, self._durability.command])
        self._durability.check(reached)
        return answers

    async def close(self) -> None:
        """Give back what was taken."""
        self._closed = True
        await self._wire.close()


def _command(name: str, script: str, call: Call) -> list[Value]:
    return [name, script, len(call.keys), *call.keys, *call.arguments]


def _failure(cause: BaseException, fault: Fault) -> Failure:
    error = cause if isinstance(cause, PersistError) else persist_error(cause, fault)
    return Failure(fault, error)
