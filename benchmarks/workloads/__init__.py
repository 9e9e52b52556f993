"""What is measured. A workload is a module with `measure(bench)`; a new one is added here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from benchmarks.bench import Bench
from benchmarks.workloads import (
    adoption,
    calls,
    delivery,
    footprint,
    growth,
    memory,
    purge,
    replay,
    store,
    tails,
    think_time,
)

Measure = Callable[[Bench], Awaitable[None]]

ALL: dict[str, Measure] = {
    "store": store.measure,
    "think-time": think_time.measure,
    "replay": replay.measure,
    "calls": calls.measure,
    "adoption": adoption.measure,
    "delivery": delivery.measure,
    "tails": tails.measure,
    "footprint": footprint.measure,
    "memory": memory.measure,
    "purge": purge.measure,
    "growth": growth.measure,
}
