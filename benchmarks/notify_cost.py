"""What NOTIFY costs those who write: beside the inserting transaction, as the store does it, and inside of it.

    python -m benchmarks.notify_cost --dsn postgresql://user@host/migrated_database

Processes with 50 callers each append; the ways take turns, round after round. Inside, a trigger notifies: that is one
notification a batch, at no further round trip. A transaction that has notified holds a lock of the whole server while
it commits. With `?commit_delay=2000&commit_siblings=0` at the end of the DSN, the server behaves as on a disk that
needs two milliseconds to sync.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from typing import Any

import asyncpg

from mcp_persist_sa import open_store

CALLERS = 50
WAYS = {"no NOTIFY": False, "NOTIFY beside": True, "NOTIFY inside": False}
INSIDE = """
CREATE OR REPLACE FUNCTION benchmark_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('benchmark', string_agg(concat_ws(' ', session_key, stream_key, sequence), chr(10))) FROM stored;
    RETURN NULL;
END $$;
CREATE TRIGGER benchmark_notify AFTER INSERT ON mcp_events
    REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION benchmark_notify();
"""
OUTSIDE = "DROP TRIGGER IF EXISTS benchmark_notify ON mcp_events"


async def child(dsn: str, name: str) -> None:
    """Append in each way when told to, and print how many events a second."""
    async with open_store(dsn, background=False) as quiet, open_store(dsn) as telling:
        connection: Any = await asyncpg.connect(dsn)
        await connection.add_listener("benchmark", _hear)
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            way, seconds = json.loads(line)
            store = telling if WAYS[way] else quiet
            end = time.monotonic() + seconds
            counts = await asyncio.gather(*(_append(store, f"{name}-{n}", end) for n in range(CALLERS)))
            print(sum(counts) / seconds, flush=True)


def _hear(*_: object) -> None:
    """Nobody waits here, as in the store beside."""


async def _append(store: Any, session_id: str, end: float) -> int:
    count = 0
    while time.monotonic() < end:
        await store.append(session_id, "1", "x" * 300)
        count += 1
    return count


async def one_round(connection: Any, processes: list[asyncio.subprocess.Process], way: str, seconds: float) -> float:
    """Events a second of all processes together."""
    await connection.execute(OUTSIDE)
    if way == "NOTIFY inside":
        await connection.execute(INSIDE)
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps([way, seconds]).encode() + b"\n")
    return sum([float(await _line(process)) for process in processes])


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def run(dsn: str, count: int, rounds: int, seconds: float) -> None:
    """Measure, and print medians and ratios."""
    connection: Any = await asyncpg.connect(dsn)
    pipe = asyncio.subprocess.PIPE
    words = ["-m", "benchmarks.notify_cost", "--dsn", dsn, "--child"]
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, *words, str(n), stdin=pipe, stdout=pipe)
        for n in range(count)
    ]
    figures: dict[str, list[float]] = {way: [] for way in WAYS}
    try:
        for process in processes:
            await _line(process)
        for number in range(rounds + 1):
            for way in WAYS:
                found = await one_round(connection, processes, way, seconds)
                if number:
                    figures[way].append(found)
    finally:
        for process in processes:
            process.kill()
            await process.wait()
        await connection.execute(OUTSIDE)
        await connection.close()
    base = figures["no NOTIFY"]
    for way, found in figures.items():
        ratio = statistics.median(own / other for own, other in zip(found, base, strict=True))
        print(f"{way:<14} {statistics.median(found):7.0f} events/s  x{ratio:.2f}")


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", required=True, help="a migrated Postgres database")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        asyncio.run(child(arguments.dsn, arguments.child))
    else:
        asyncio.run(run(arguments.dsn, arguments.processes, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
