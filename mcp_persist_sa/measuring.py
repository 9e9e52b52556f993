"""A backend that tells a collector what it does. Where there is no collector, there is none of these either."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial, wraps
from time import perf_counter
from typing import Any, cast

from mcp_persist_sa.batches import Append, Place
from mcp_persist_sa.metrics import Metrics, Tracing
from mcp_persist_sa.protocols import Backend
from mcp_persist_sa.stretches import Stretch

logger = logging.getLogger(__name__)


def measured(backend: Backend, metrics: Metrics | None) -> Backend:
    """The backend, and what tells of it if somebody wants to know."""
    return backend if metrics is None else cast("Backend", _Measured(backend, metrics))


class _Measured:
    def __init__(self, backend: Backend, metrics: Metrics) -> None:
        self._backend = backend
        self._metrics = metrics
        self._tracing = metrics if isinstance(metrics, Tracing) else None
        self._failed: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        """An operation of the backend, which is told of."""
        operation: Callable[..., Any] = getattr(self._backend, name)
        if asyncio.iscoroutinefunction(operation):
            operation = wraps(operation)(partial(self._run, name, operation))
        setattr(self, name, operation)
        return operation

    async def _run(self, name: str, operation: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        begin = perf_counter()
        with self._traced(name):
            try:
                result = await operation(*args, **named)
            except Exception as error:
                self._tell("error", name, error)
                raise
        seconds = perf_counter() - begin
        if name == "append":
            self._tell("event_stored", *_stored(args[0], result), seconds)
        elif name in ("read", "read_before"):
            self._tell("replay", cast("Stretch", result).count, seconds)
        return result

    @contextmanager
    def _traced(self, name: str) -> Generator[None, None, None]:
        """Whatever becomes of the tracing, the operation runs, and its error comes out."""
        span = None
        if self._tracing is not None:
            span = self._safely("operation", _entered, self._tracing, name, self._backend.system)
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            if span is not None:
                kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
                self._safely("operation", span.__exit__, kind, error, trace)

    def _tell(self, method: str, *values: Any) -> None:
        self._safely(method, getattr(self._metrics, method), *values)

    def _safely(self, method: str, call: Callable[..., Any], *values: Any) -> Any:
        try:
            return call(*values)
        except Exception:
            # Once: it is called for every event.
            if method not in self._failed:
                self._failed.add(method)
                logger.exception("The metrics failed in %(method)s, which is ignored from now on.", {"method": method})
            return None


def _entered(tracing: Tracing, name: str, system: str) -> AbstractContextManager[object]:
    span = tracing.operation(name, system)
    span.__enter__()
    return span


def _stored(batch: Sequence[Append], places: Sequence[Place | Exception]) -> tuple[int, int]:
    """How many events of a batch were stored, and their bytes."""
    stored = [group for group, place in zip(batch, places, strict=True) if isinstance(place, Place)]
    return sum(len(group.events) for group in stored), sum(group.size for group in stored)
