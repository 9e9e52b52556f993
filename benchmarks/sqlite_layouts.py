"""How should SQLite keep events? Prints microseconds per event, and the size of the file; see docs/architecture.md.

    python -m benchmarks.sqlite_layouts

Two tables of our columns, each with 300,000 events of 3,000 streams: rows in the order of their arrival, with the
primary key as an index beside them; and rows in the order of the primary key. Then, by turns, batches are written that
hold an event for each of some streams, and streams are read whole.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

STREAMS = 3000
EVENTS = 100
ROUNDS = 15
_MESSAGE = "x" * 344
_COLUMNS = (
    "session_key VARCHAR(20) NOT NULL, stream_key VARCHAR(20) NOT NULL, sequence BIGINT NOT NULL, nonce VARCHAR(20),"
    " final BOOLEAN, size INTEGER, created_at BIGINT, message TEXT, PRIMARY KEY (session_key, stream_key, sequence)"
)
LAYOUTS = {"in order of arrival, with an index": "", "in order of the key": "WITHOUT ROWID"}

_numbers = count(EVENTS + 1)


@contextmanager
def filled(how: str) -> Generator[sqlite3.Connection, None, None]:
    """A table with events."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "layout.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"CREATE TABLE events ({_COLUMNS}) {how}")
        for number in range(1, EVENTS + 1):
            write(connection, range(STREAMS), number)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield connection
        connection.close()


def write(connection: sqlite3.Connection, streams: range, number: int) -> None:
    """A batch: an event for each of some streams."""
    rows = [(*_keys(stream), number, "nonce---", False, 344, number, _MESSAGE) for stream in streams]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


def _keys(stream: int) -> tuple[str, str]:
    """Spread over the whole index, as digests are."""
    spread = stream * 2654435761 % 2**32
    return f"{spread:020x}", f"{spread:016x}"


def written(connection: sqlite3.Connection, size: int) -> float:
    """Microseconds per event of batches of that size; the streams go on from one to the next."""
    batches = max(5, 400 // size)
    begin = time.perf_counter()
    for batch in range(batches):
        first = batch * size % (STREAMS - size)
        write(connection, range(first, first + size), next(_numbers))
    return (time.perf_counter() - begin) / batches / size * 1e6


def read(connection: sqlite3.Connection) -> float:
    """Microseconds per event of some streams, read whole."""
    begin, found = time.perf_counter(), 0
    for stream in range(0, STREAMS, STREAMS // 10):
        statement = "SELECT * FROM events WHERE session_key = ? AND stream_key = ? ORDER BY sequence"
        found += len(connection.execute(statement, _keys(stream)).fetchall())
    return (time.perf_counter() - begin) / found * 1e6


def main() -> None:
    """Print all figures."""
    with ExitStack() as stack:
        tables = {name: stack.enter_context(filled(how)) for name, how in LAYOUTS.items()}
        for name, table in tables.items():
            pages = table.execute("PRAGMA page_count").fetchone()[0]
            print(f"{name:36}{pages * 4096 / STREAMS / EVENTS:7.0f} bytes an event")
        for size in (1, 10, 50, 200, 1000):
            _by_turns(f"batches of {size}", tables, lambda table, size=size: written(table, size))
        _by_turns("reading, warm", tables, read)


def _by_turns(title: str, tables: dict[str, sqlite3.Connection], run: Callable[[sqlite3.Connection], float]) -> None:
    rounds = [{name: run(table) for name, table in tables.items()} for _ in range(ROUNDS)]
    figures = [f"{name}: {statistics.median(each[name] for each in rounds):.1f} us" for name in tables]
    print(f"{title:20}{', '.join(figures)}")


if __name__ == "__main__":
    main()
