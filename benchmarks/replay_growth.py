"""Does the replay of one stream cost more when the table holds more? Prints the ratio; see --help.

    python -m benchmarks.replay_growth --dsn postgresql://user@host/empty_database

Both tables are in one database, in turn: the stream of 1,000 events is read among few other events, then among many.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa

from mcp_persist_sa import NewEvent, Store, open_store
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.engine import postgres_engine, sqlite_engine
from mcp_persist_sa.options import Options

STREAM_EVENTS = 1000
OTHERS_PER_STREAM = 100
MESSAGE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"' + "x" * 260 + '"}}'

_SERIES = {
    "sqlite": "WITH RECURSIVE n(i) AS (VALUES({first}) UNION ALL SELECT i + 1 FROM n WHERE i < {last}) SELECT i FROM n",
    "postgresql": "SELECT i FROM generate_series({first}, {last}) AS i",
}
_KEYS = {
    "sqlite": ("substr('session' || (i % {streams}) || '____________________', 1, 20)", "'strm' || (i % {streams})"),
    "postgresql": ("rpad('session' || (i % {streams}), 20, '_')", "'strm' || (i % {streams})"),
}
_NOW = {"sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", "postgresql": "clock_timestamp()"}


def fill(dialect: str, first: int, last: int) -> str:
    """SQL that inserts other events, interleaved over many streams."""
    streams = last // OTHERS_PER_STREAM
    session, stream = (text.format(streams=streams) for text in _KEYS[dialect])
    return (
        "INSERT INTO mcp_events (session_key, stream_key, sequence, nonce, final, size, created_at, message) "
        f"SELECT {session}, {stream}, {first} + i / {streams} + 1, 'nonce', false, {len(MESSAGE)}, {_NOW[dialect]}, "
        f"'{MESSAGE}' FROM ({_SERIES[dialect].format(first=first, last=last)}) AS series"
    )


async def execute(dsn: str, *statements: str) -> None:
    """Run statements on a connection of their own."""
    parsed = parse(dsn)
    options = Options.of({"timeout": 3600.0})
    if parsed.kind == "sqlite":
        engine = sqlite_engine(parsed, options)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
            connection.commit()
        engine.dispose()
        return
    postgres = postgres_engine(parsed, options, pooled=False, pooler=False)
    async with postgres.connect() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement.replace(":", "\\:")))
        await connection.commit()
    await postgres.dispose()


async def replay(store: Store, after: str) -> float:
    """Seconds to read the stream to its end."""
    begin, place, count = time.perf_counter(), after, 0
    while True:
        page = await store.read("session", after=place)
        count += len(page.items)
        if not page.more or page.event_id is None:
            break
        place = page.event_id
    assert count == STREAM_EVENTS - 1, count
    return time.perf_counter() - begin


async def median(store: Store, after: str, rounds: int) -> float:
    """The median of some replays, after one that is not counted."""
    await replay(store, after)
    return statistics.median([await replay(store, after) for _ in range(rounds)])


async def run(dsn: str, sizes: list[int], rounds: int) -> None:
    """Measure at each size."""
    async with open_store(dsn, migrate=True) as store:
        ids = await store.append_many("session", "stream", [NewEvent(MESSAGE)] * STREAM_EVENTS)
        figures: list[float] = []
        filled = 0
        for size in sizes:
            await execute(dsn, fill(parse(dsn).kind, filled, size - 1), "ANALYZE")
            filled = size
            figures.append(await median(store, ids[0], rounds))
            ratio = figures[-1] / figures[0]
            print(f"{parse(dsn).kind}: {size:>9,} other events: {figures[-1] * 1000:.2f} ms, x{ratio:.2f}")


def main() -> None:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dsn", help="an empty database (default: a temporary SQLite file)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=51)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dsn = arguments.dsn or f"sqlite:///{Path(folder) / 'growth.db'}"
        asyncio.run(run(dsn, arguments.sizes, arguments.rounds))


if __name__ == "__main__":
    main()
