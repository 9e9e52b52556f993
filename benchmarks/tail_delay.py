"""How long from an append to its delivery by a tail, within a process and between two; see --help.

    python -m benchmarks.tail_delay --dsn postgresql://user@host/migrated_database

A second process appends; each event carries the time at which it was given to the store, by the clock that both have.
Then 1,000 tails in this process, each of a session of its own: memory, and statements while nothing happens and while
the other process writes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from mcp_persist_sa import Event, Store, open_store

LOAD = 1000
PROBES_PER_SECOND = 20
TAILS = 1000
MESSAGE = "x" * 300


async def write(store: Store, stream_id: str, seconds: float, load: int) -> float:
    """Append events that carry their time to a stream, and others to many sessions, so many a second.

    Returns:
        The median of the milliseconds that an append took.
    """
    took: list[float] = []
    loading = asyncio.ensure_future(fill(store, load))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = time.monotonic_ns()
        await store.append("probed", stream_id, str(now))
        took.append((time.monotonic_ns() - now) / 1e6)
        await asyncio.sleep(1 / PROBES_PER_SECOND)
    loading.cancel()
    await asyncio.wait({loading})
    await store.append("probed", stream_id, "end", final=True)
    return statistics.median(took)


async def fill(store: Store, load: int) -> None:
    """Append so many events a second, to a session each."""
    begin, written = time.monotonic(), 0
    while load:
        due = int(load * (time.monotonic() - begin))
        await asyncio.gather(*(store.append(f"session-{n % TAILS}", "1", MESSAGE) for n in range(written, due)))
        written = due
        await asyncio.sleep(0.005)


async def child(dsn: str, stream_id: str, seconds: float, load: int) -> None:
    """Be the other process: write once a line comes in."""
    async with open_store(dsn) as store:
        await store.append("warm", "1", "x", final=True)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(await write(store, stream_id, seconds, load), flush=True)


@asynccontextmanager
async def writer(
    dsn: str, stream_id: str, seconds: float, load: int
) -> AsyncGenerator[asyncio.subprocess.Process, None]:
    """The other process, ready to write."""
    words = ["-m", "benchmarks.tail_delay", "--child", json.dumps([dsn, stream_id, seconds, load])]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def begin(process: asyncio.subprocess.Process) -> None:
    """Let it write."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


async def delays(store: Store, stream_id: str) -> list[float]:
    """Milliseconds from each append to its delivery, until the stream ends."""
    return [
        (time.monotonic_ns() - int(item.message or 0)) / 1e6
        async for item in store.tail("probed", stream_id)
        if isinstance(item, Event) and not item.final
    ]


def say(what: str, found: list[float], append: float) -> None:
    """Print the median and the 99th percentile, and what the append took of it."""
    rank = statistics.quantiles(found, n=100)
    print(f"{what}: median {rank[49]:.2f} ms (append {append:.2f}), p99 {rank[98]:.2f} ms", flush=True)


async def ready(store: Store) -> None:
    """Wait until other processes are heard."""
    for _ in range(1000):
        if (await store.health()).notifier.mode == "listening":
            return
        await asyncio.sleep(0.01)
    raise SystemExit("Other processes are not heard.")


async def measure_delay(name: str, dsn: str, seconds: float) -> None:
    """Across processes without and with load, and within one."""
    for load in (0, LOAD):
        words = f"{load:,} events/s" if load else "idle"
        async with open_store(dsn) as store, writer(dsn, f"between-{load}", seconds, load) as process:
            following = asyncio.ensure_future(delays(store, f"between-{load}"))
            await asyncio.sleep(0)
            await ready(store)
            await begin(process)
            found = await following
            assert process.stdout is not None
            say(f"{name}, between processes, {words}", found, float(await process.stdout.readline()))
        async with open_store(dsn) as store:
            following = asyncio.ensure_future(delays(store, f"within-{load}"))
            await asyncio.sleep(0)
            append = await write(store, f"within-{load}", seconds, load)
            say(f"{name}, within a process, {words}", await following, append)


class Statements:
    """Counts the statements of this process."""

    def __init__(self) -> None:
        self._kinds: Counter[str] = Counter()
        event.listen(sa.Engine, "before_cursor_execute", self._note)

    def _note(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self._kinds[statement.split()[0]] += 1

    async def per_second(self, seconds: float) -> float:
        """How many there are meanwhile."""
        before = self._kinds.total()
        await asyncio.sleep(seconds)
        return (self._kinds.total() - before) / seconds


async def measure_many(name: str, dsn: str, seconds: float) -> None:
    """What 1,000 tails cost."""
    statements = Statements()
    async with open_store(dsn) as store:
        for n in range(TAILS):
            await store.append(f"session-{n}", "1", "x")
        print(f"{name}, no tail: {await statements.per_second(seconds):.1f} statements/s")
        memory = _memory()
        counts: Counter[str] = Counter()
        tails = [asyncio.ensure_future(_count(store, f"session-{n}", counts)) for n in range(TAILS)]
        await asyncio.sleep(2)
        await ready(store)
        used, cpu = (_memory() - memory) / TAILS, time.process_time()
        idle = await statements.per_second(seconds)
        cpu = (time.process_time() - cpu) / seconds
        print(f"{name}, {TAILS:,} tails: {used:.0f} KiB each; idle: {idle:.0f} statements/s, {cpu:.0%} of a core")
        async with writer(dsn, "many", seconds, LOAD) as process:
            before = counts.total()
            await begin(process)
            busy = await statements.per_second(seconds)
            events = (counts.total() - before) / seconds
        print(f"{name}, {TAILS:,} tails, {events:.0f} events/s delivered: {busy:.0f} statements/s", flush=True)
        for tail in tails:
            tail.cancel()
        await asyncio.gather(*tails, return_exceptions=True)


async def _count(store: Store, session_id: str, counts: Counter[str]) -> None:
    async for _ in store.tail(session_id, "1"):
        counts[session_id] += 1


def _memory() -> int:
    """KiB that are resident now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() // 1024


async def run(dsns: dict[str, str], seconds: float) -> None:
    """Measure everything."""
    for name, dsn in dsns.items():
        await measure_delay(name, dsn, seconds)
        await measure_many(name, dsn, seconds)


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="a migrated, empty Postgres database; without it, SQLite alone is measured")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        asyncio.run(child(*json.loads(arguments.child)))
        return
    with tempfile.TemporaryDirectory() as folder:
        dsns = {"SQLite": f"sqlite:///{Path(folder) / 'delay.db'}"}
        if arguments.dsn:
            dsns["Postgres"] = arguments.dsn
        asyncio.run(run(dsns, arguments.seconds))


if __name__ == "__main__":
    main()
