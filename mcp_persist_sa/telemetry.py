"""OpenTelemetry, by its API alone: what becomes of the figures is the application's to say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from mcp_persist_sa.errors import MissingExtra

try:
    from opentelemetry import metrics, trace
except ImportError as missing:
    raise MissingExtra("OpenTelemetry needs its API: pip install 'mcp-persist-sa[otel]'") from missing

_SCOPE = "mcp_persist_sa"

_BOUNDARIES = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Of the semantic conventions, in seconds: an SDK's own begin at 5, in which all operations would be one."""


class OpenTelemetry:
    """Metrics and spans by the semantic conventions of database clients.

    `open_store(dsn, metrics=OpenTelemetry())`; the providers are those of the application, or those given.
    """

    def __init__(
        self, meter_provider: metrics.MeterProvider | None = None, tracer_provider: trace.TracerProvider | None = None
    ) -> None:
        """Make its instruments.

        Args:
            meter_provider: None for the application's.
            tracer_provider: None for the application's.
        """
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._duration = meter.create_histogram(
            "db.client.operation.duration",
            unit="s",
            description="Duration of operations of the store's backend.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        self._stored = meter.create_counter(
            "mcp_persist_sa.events.stored", unit="{event}", description="Events that became durable."
        )
        self._bytes = meter.create_counter(
            "mcp_persist_sa.events.stored.size", unit="By", description="Bytes of their messages."
        )
        self._read = meter.create_counter(
            "mcp_persist_sa.events.read", unit="{event}", description="Events that were read to be sent (again)."
        )

    def event_stored(self, count: int, size: int, seconds: float) -> None:
        """Count them."""
        self._stored.add(count)
        self._bytes.add(size)

    def replay(self, count: int, seconds: float) -> None:
        """Count them."""
        self._read.add(count)

    def error(self, operation: str, error: Exception) -> None:
        """Nothing: the duration of the operation says how it ended."""

    @contextmanager
    def operation(self, name: str, system: str) -> Generator[None, None, None]:
        """Measure an operation, in a span of its own."""
        attributes: dict[str, Any] = {"db.system.name": system, "db.operation.name": name}
        begin = perf_counter()
        try:
            with self._tracer.start_as_current_span(
                f"mcp_persist_sa {name}", kind=trace.SpanKind.CLIENT, attributes=attributes
            ):
                yield
        except Exception as error:
            attributes["error.type"] = type(error).__name__
            raise
        finally:
            self._duration.record(perf_counter() - begin, attributes)
