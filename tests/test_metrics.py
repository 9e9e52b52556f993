"""What a store tells of itself, and that whoever is told cannot do any harm."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcp_persist_sa import InvalidOption, LoggingMetrics, NewEvent, OpenTelemetry, SessionExists, Store, open_store
from tests.contract.support import fill
from tests.databases import REDIS, Database
from tests.hunts.support import eventually
from tests.servers.processes import REPOSITORY


class Collected:
    """Keeps what it is told, without the times."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def event_stored(self, count: int, size: int, seconds: float) -> None:
        assert seconds > 0
        self.told.append(("stored", count, size))

    def replay(self, count: int, seconds: float) -> None:
        assert seconds > 0
        self.told.append(("replay", count))

    def error(self, operation: str, error: Exception) -> None:
        self.told.append((operation, type(error).__name__))


async def use(store: Store) -> list[str | None]:
    await store.sessions.create("session")
    with pytest.raises(SessionExists):
        await store.sessions.create("session")
    ids = await store.append_many("session", "1", [NewEvent("a"), NewEvent("bcd")])
    await store.append("session", "1", "ä", final=True)
    page = await store.read("session", after=ids[0])
    return [event.message for event in page.events]


async def test_a_collector_is_told(database: Database) -> None:
    collected = Collected()
    store = await database.open(metrics=collected)
    assert await use(store) == ["bcd", "ä"]
    assert collected.told == [("create_session", "SessionExists"), ("stored", 2, 4), ("stored", 1, 2), ("replay", 2)]


async def test_a_tail_and_a_claim_are_measured_too(database: Database) -> None:
    collected = Collected()
    store = await database.open(metrics=collected)
    writer = store.claim("session", "1")
    await writer.append("x", final=True).durable()
    assert [item async for item in store.tail("session", "1")]
    assert collected.told == [("stored", 1, 1), ("replay", 1)]


class Raising:
    """A collector that is broken in each of its methods."""

    def event_stored(self, count: int, size: int, seconds: float) -> None:
        raise RuntimeError("stored")

    def replay(self, count: int, seconds: float) -> None:
        raise RuntimeError("replay")

    def error(self, operation: str, error: Exception) -> None:
        raise RuntimeError("error")

    def operation(self, name: str, system: str) -> Any:
        raise RuntimeError("operation")


async def test_a_collector_that_raises_is_logged_once_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async with open_store("sqlite://", metrics=Raising()) as store:
        assert await use(store) == ["bcd", "ä"]
    for method in ("event_stored", "replay", "error", "operation"):
        assert caplog.text.count(f"failed in {method},") == 1


class Counting(Collected):
    """A collector that has an `operation` of its own, which has nothing to do with tracing."""

    def operation(self, name: str, system: str) -> None:
        self.told.append((name, system))


async def test_an_operation_that_traces_nothing_is_logged_once_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    async with open_store("sqlite://", metrics=Counting()) as store:
        assert await use(store) == ["bcd", "ä"]
    assert caplog.text.count("failed in operation,") == 1


async def test_the_ready_made_one_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_persist_sa.metrics")
    async with open_store("sqlite://", metrics=LoggingMetrics()) as store:
        await use(store)
    assert "stored events=2 bytes=4 seconds=" in caplog.text
    assert "replayed events=2 seconds=" in caplog.text
    assert "failed operation=create_session error=SessionExists: " in caplog.text


def test_what_is_no_collector_is_refused() -> None:
    with pytest.raises(InvalidOption, match="event_stored, replay, error"):
        open_store("sqlite://", metrics=object())


async def emitted(tracers: TracerProvider | None = None) -> dict[str, Any]:
    """The metrics of a store that was used, by name."""
    reader = InMemoryMetricReader()
    async with open_store("sqlite://", metrics=OpenTelemetry(MeterProvider([reader]), tracers)) as store:
        await use(store)
    data: Any = reader.get_metrics_data()
    return {
        metric.name: metric
        for of_resource in data.resource_metrics
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
    }


async def test_opentelemetry_is_given_metrics_and_spans() -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    found = {name: metric.data.data_points for name, metric in (await emitted(tracers)).items()}
    totals = {name: found[f"mcp_persist_sa.events.{name}"][0].value for name in ("stored", "stored.size", "read")}
    assert totals == {"stored": 3, "stored.size": 6, "read": 2}
    durations = {
        (point.attributes["db.operation.name"], point.attributes.get("error.type")): point.count
        for point in found["db.client.operation.duration"]
    }
    assert durations[("append", None)] == 2
    assert {point.attributes["db.system.name"] for point in found["db.client.operation.duration"]} == {"sqlite"}
    assert durations[("create_session", "SessionExists")] == 1
    spans = [span for span in exporter.get_finished_spans() if span.name == "mcp_persist_sa create_session"]
    assert [span.status.is_ok for span in spans] == [True, False]


UNITS = {"s": "_seconds", "By": "_bytes"}


def in_prometheus(metric: Any) -> list[str]:
    """Its series there, by the rules that OpenTelemetry has for it."""
    name = re.sub(r"\W", "_", metric.name) + UNITS.get(metric.unit, "")
    points = metric.data.data_points
    return [f"{name}_{kind}" for kind in ("bucket", "count", "sum")] if hasattr(points[0], "sum") else [f"{name}_total"]


async def test_the_dashboard_shows_what_is_emitted() -> None:
    found = await emitted()
    dashboard = json.loads((REPOSITORY / "docs" / "grafana.json").read_text())
    assert dashboard["title"]
    assert all(panel["title"] and panel["type"] and panel["gridPos"] for panel in dashboard["panels"])
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [each["definition"] for each in dashboard["templating"]["list"] if "definition" in each]
    named = {name for query in asked for name in re.findall(r"\b(?:db_client|mcp_persist_sa)_\w+", query)}
    assert named == {name for metric in found.values() for name in in_prometheus(metric)}
    attributes = {name for metric in found.values() for point in metric.data.data_points for name in point.attributes}
    by = {name for query in asked for names in re.findall(r"by \((.*?)\)", query) for name in names.split(", ")}
    labels = by.union(*(re.findall(r'(\w+)(?:=~|!=|=)"', query) for query in asked))
    assert labels <= {name.replace(".", "_") for name in attributes} | {"job", "instance", "le"}


async def test_durations_fall_into_boundaries_of_milliseconds() -> None:
    points = (await emitted())["db.client.operation.duration"].data.data_points
    assert {min(point.explicit_bounds) for point in points} == {0.001}


async def test_where_nobody_is_told_nothing_is_measured(database: Database) -> None:
    store = await database.open()
    assert type(store.backend).__name__ == "RedisBackend" if database.is_redis else "SQLBackend"


SIZES = {
    "sqlite": 11,
    "sqlite-memory": 1,
    "sqlite-engine": 5,
    "postgres": 10,
    "postgres-engine": 10,
    **dict.fromkeys(REDIS, 10),
}


async def test_health_tells_of_the_pool(database: Database) -> None:
    store = await database.open()
    await fill(store, "session", "1", 1)
    pool = (await store.health()).pool
    assert pool is not None
    assert pool.size == SIZES[database.kind]
    assert 0 <= pool.in_use <= 1


async def test_health_tells_how_long_news_are_on_their_way(new_postgres: Callable[[], str]) -> None:
    async with open_store(new_postgres()) as store, aclosing(store.tail("session", "1")) as tail:
        assert (await store.health()).notifier.lag is None
        waiting = asyncio.ensure_future(anext(tail))

        async def is_heard() -> bool:
            return (await store.health()).notifier.mode == "listening"

        await eventually("the store listens", is_heard)
        assert ((await store.health()).notifier.lag or 0) > 0
        waiting.cancel()
        await asyncio.wait({waiting})
