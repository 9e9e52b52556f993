"""What a store tells of itself: how many events, how long it took, what failed."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

logger = logging.getLogger(__name__)


class Metrics(Protocol):
    """Collects figures. Its methods are called in the event loop, so they must not wait for anything.

    One that raises is logged, and changes nothing.
    """

    def event_stored(self, count: int, size: int, seconds: float) -> None:
        """Note that events are durable, all by one transaction.

        Args:
            count: How many.
            size: The bytes of their messages.
            seconds: How long the transaction took.
        """
        ...

    def replay(self, count: int, seconds: float) -> None:
        """Note that a page of a stream was read, for whoever resumes it or follows it.

        Args:
            count: How many events it holds.
            seconds: How long that took.
        """
        ...

    def error(self, operation: str, error: Exception) -> None:
        """Note that an operation of the backend failed; it may be tried again.

        Args:
            operation: Which, such as `append`.
            error: How.
        """
        ...


@runtime_checkable
class Tracing(Protocol):
    """Metrics that also want to know of each operation of the backend when it begins and ends."""

    def operation(self, name: str, system: str) -> AbstractContextManager[object]:
        """What is entered while the operation runs.

        Args:
            name: Which, such as `append`.
            system: Of which database: `sqlite`, `postgresql` or `redis`.
        """
        ...


class LoggingMetrics:
    """Writes a line of the logger `mcp_persist_sa.metrics` for each call, at the level INFO; errors at WARNING."""

    def event_stored(self, count: int, size: int, seconds: float) -> None:
        """Log it."""
        logger.info(
            "stored events=%(events)d bytes=%(bytes)d seconds=%(seconds).6f",
            {"events": count, "bytes": size, "seconds": seconds},
        )

    def replay(self, count: int, seconds: float) -> None:
        """Log it."""
        logger.info("replayed events=%(events)d seconds=%(seconds).6f", {"events": count, "seconds": seconds})

    def error(self, operation: str, error: Exception) -> None:
        """Log it."""
        logger.warning(
            "failed operation=%(operation)s error=%(type)s: %(error)s",
            {"operation": operation, "type": type(error).__name__, "error": error},
        )
