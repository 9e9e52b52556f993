"""The plans of hot queries: their cost must not grow with the tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ClauseElement, Executable

from benchmarks import rows
from benchmarks.databases import Database
from benchmarks.figures import OURS
from mcp_persist_sa import NewEvent, open_store, schema
from mcp_persist_sa.backends.sql import audit, outlines, policies, reads, removal, retention, stats, streams
from mcp_persist_sa.backends.sql.appends import Appends
from mcp_persist_sa.backends.sql.reading import Reading
from mcp_persist_sa.batches import Append, Arrival, Claim, Gate, Place
from mcp_persist_sa.dsn import parse
from mcp_persist_sa.engine import postgres_engine, sqlite_engine
from mcp_persist_sa.identity import EventId, session_key
from mcp_persist_sa.options import Options

T = TypeVar("T")

OTHER_EVENTS = 50_000
NOW = datetime.now(timezone.utc)
VALUES: dict[str, Any] = {
    "for_session": "session7____________",
    "for_stream": "strm7",
    "place": 10,
    "limit": 500,
    "max_bytes": 2**20,
    "event_ttl": timedelta(hours=24),
    "now": NOW,
}


@pytest.fixture(params=["sqlite", "postgres"])
async def full(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> str:
    """The DSN of a database with many events of many streams."""
    dsn = f"sqlite:///{tmp_path / 'full.db'}" if request.param == "sqlite" else new_postgres()
    return await _filled(Database(request.param, dsn), a_stream=100)


async def _filled(database: Database, *, a_stream: int) -> str:
    async with open_store(database.dsn):
        await rows.fill(OURS, database, rows.Rows(0, OTHER_EVENTS, OTHER_EVENTS // a_stream))
    await rows.settle(database)
    return database.dsn


class Explain(Executable, ClauseElement):
    """EXPLAIN of a statement, with its parameters."""

    inherit_cache = False

    def __init__(self, statement: ClauseElement) -> None:
        self.statement = statement


@compiles(Explain, "postgresql")
def _on_postgres(element: Explain, compiler: Any, **kw: Any) -> str:
    return "EXPLAIN " + compiler.process(element.statement, **kw)


@compiles(Explain, "sqlite")
def _on_sqlite(element: Explain, compiler: Any, **kw: Any) -> str:
    return "EXPLAIN QUERY PLAN " + compiler.process(element.statement, **kw)


async def run(dsn: str, work: Callable[[sa.Connection], T]) -> T:
    """Run work on a connection, past the store, and commit."""
    parsed, options = parse(dsn), Options()
    if parsed.kind == "sqlite":
        sync_engine = sqlite_engine(parsed, options)
        with sync_engine.connect() as connection:
            result = work(connection)
            connection.commit()
        sync_engine.dispose()
        return result
    engine = postgres_engine(parsed, options, pooled=False, pooler=False)
    async with engine.connect() as connection:
        result = await connection.run_sync(work)
        await connection.commit()
    await engine.dispose()
    return result


async def plan(dsn: str, statement: Any, values: dict[str, Any]) -> str:
    """What EXPLAIN says of a statement, as text; on Postgres with its own clock, as in production."""
    if not dsn.startswith("sqlite"):
        values = {**values, "now": None}
    rows = await run(dsn, lambda connection: connection.execute(Explain(statement), values).all())
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("form", reads.PAGES)
async def test_a_page_is_read_from_ranges_of_the_primary_keys(full: str, form: str) -> None:
    found = await plan(full, reads.PAGES[form], VALUES)
    if full.startswith("sqlite"):
        assert "SCAN mcp_" not in found
        assert form == "head" or re.search(
            r"SEARCH mcp_events USING INDEX \S+ \(session_key=\? AND stream_key=\? AND sequence>\?\)", found
        )
        assert form == "rows" or "SEARCH mcp_streams USING INDEX" in found
        assert form == "at once" or "TEMP B-TREE" not in found
    elif form == "at once":
        assert "on mcp_events" in found
        assert "Seq Scan on mcp_events" not in found
        assert "Bitmap" not in found
        assert found.count("Index Scan using pk_mcp_events on mcp_events") == 2
        assert re.search(r"Index Cond: .*session_key.*stream_key.*sequence > ", found)


async def test_postgres_plans_a_page_once_however_long_the_streams_are(new_postgres: Callable[[], str]) -> None:
    """It would plan anew each time, for as long as a short page takes, if the limit were a parameter."""
    dsn = new_postgres()
    async with open_store(dsn) as store:
        first, *_ = await store.append_many("session", "1", [NewEvent("x" * 300)] * 10_000)
    await rows.settle(Database("postgres", dsn))
    key, place, reading = session_key("", "session"), EventId.parse(first), Reading(timedelta(hours=1), None)

    def work(connection: sa.Connection) -> list[tuple[int, int]]:
        for _ in range(25):
            assert reads.read_after(connection, key, place, reading, limit=127, max_bytes=2**20).count == 127
        return _plans(connection)

    assert await run(dsn, work) == [(20, 5)]


@pytest.mark.parametrize("writers", [1, 2, 3, 5, 8, 9, 50])
@pytest.mark.parametrize("kind", ["go on", "begin"])
async def test_postgres_plans_a_batch_once_whatever_its_size(
    new_postgres: Callable[[], str], kind: str, writers: int
) -> None:
    """It takes an array for one of ten, and would plan each batch of fewer anew: a sixth of what an event takes."""
    dsn = await _filled(Database("postgres", new_postgres()), a_stream=5)
    appends = Appends("postgresql", "")

    def places(number: int) -> list[Place]:
        if kind == "begin":
            return [Place(f"stream-{number}-of-{n}", 1) for n in range(writers)]
        return [Place(f"stream-of-{n}", number) for n in range(writers)]

    def batch(number: int) -> list[Append]:
        event = (Arrival("{}", False, f"nonce-{number}", 2),)
        return [Append(key, "1", event, 2, Claim(key), Place(key, first), first == 1) for key, first in places(number)]

    def work(connection: sa.Connection) -> list[tuple[int, int]]:
        for number in range(1, 27):
            assert appends.store(connection, batch(number), Gate("writer", number), None) == places(number)
        return _plans(connection)

    assert await run(dsn, work) == [(20 if kind == "go on" else 21, 5)]


def _plans(connection: sa.Connection) -> list[tuple[int, int]]:
    """How often each statement that was run often was run by a general plan, and by one that was made for it."""
    often = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE generic_plans + custom_plans > 20"
    return [(generic, custom) for generic, custom in connection.exec_driver_sql(often)]


@pytest.mark.parametrize("statement", [streams.ONE, streams.LIST], ids=["one", "page"])
async def test_of_a_session_s_events_only_those_of_the_streams_in_question_are_counted(
    full: str, statement: Any
) -> None:
    found = await plan(full, statement, {**VALUES, "after": "", "limit": 100})
    if full.startswith("sqlite"):
        assert "SCAN mcp_" not in found
        searches = re.findall(r"SEARCH mcp_events .*", found)
        assert searches
        assert all("(session_key=? AND stream_key=?)" in search for search in searches)
    else:
        assert "Seq Scan on mcp_events" not in found
        conditions = re.findall(r"on mcp_events[^\n]*\n\s*Index Cond: (.*)", found)
        assert conditions
        assert all("stream_key" in condition for condition in conditions)


@pytest.mark.parametrize(
    "statement",
    [stats.SESSIONS, stats.STREAMS, stats.RECENT, stats.LARGEST],
    ids=["sessions", "streams", "recent", "largest"],
)
async def test_events_are_not_read_to_be_counted(full: str, statement: Any) -> None:
    span = timedelta(minutes=1)
    found = await plan(full, statement, {**VALUES, "in_namespace": "", "minute": span, "hour": span})
    assert not re.search(r"SCAN mcp_events|Seq Scan on mcp_events", found), found


async def test_a_plan_that_scans_would_be_seen(full: str) -> None:
    scan = sa.select(reads.events).where(reads.events.c.nonce == sa.bindparam("for_stream"))
    found = await plan(full, scan, VALUES)
    assert ("SCAN mcp_events" if full.startswith("sqlite") else "Seq Scan") in found


async def test_whoever_copies_reads_ranges_of_the_primary_keys(full: str) -> None:
    values = {**VALUES, "after": "session3", "through": 20}
    found = [
        await plan(full, statement, values) for statement in (outlines.KEYS, outlines.STREAM_PAGE, outlines.EVENTS)
    ]
    if full.startswith("sqlite"):
        assert all("SCAN mcp_" not in text and "FOR GROUP BY" not in text for text in found)
        assert found[0].count("(session_key>?)") == 3
        assert "(session_key=? AND stream_key>?)" in found[1]
        assert "(session_key=? AND stream_key=? AND sequence>? AND sequence<?)" in found[2]
    else:
        assert all("Seq Scan on mcp_events" not in text for text in found)
        assert "Index Scan using pk_mcp_events" in found[2]


TENANTS = 40
ENTRIES = 20_000


async def _accounted(full: str) -> None:
    """Give each session a tenant, and fill the trail."""
    entries = [
        {
            "entry_id": f"e{n:019}",
            "namespace": "",
            "tenant": f"tenant{n % TENANTS}",
            "reason": "deleted",
            "removed_by": "call",
            "created_at": NOW + timedelta(seconds=n),
            "expires_at": NOW + timedelta(days=n + 1),
            **dict.fromkeys(("sessions", "streams", "events", "state"), 1),
        }
        for n in range(ENTRIES)
    ]
    async with open_store(full) as store:
        for n in range(10 * TENANTS):
            await store.sessions.create(f"s{n}", tenant=f"tenant{n % TENANTS}")
            await store.append(f"s{n}", "1", "{}")
        for n in range(TENANTS):
            await store.policies.set(f"tenant{n}", event_ttl=60, audit_ttl=60)
    await run(full, lambda connection: connection.execute(sa.insert(audit.audit), entries))
    await rows.settle(Database("sqlite" if full.startswith("sqlite") else "postgres", full))


async def test_where_nothing_has_expired_nothing_is_read(full: str) -> None:
    row = {"namespace": "", "created_at": NOW, "last_seen_at": NOW, "expires_at": NOW + timedelta(hours=1)}
    many = [{**row, "session_key": f"s{n:019}", "session_id": str(n), "metadata": {}} for n in range(ENTRIES)]
    await run(full, lambda connection: connection.execute(sa.insert(schema.sessions), many))
    await rows.settle(Database("sqlite" if full.startswith("sqlite") else "postgres", full))
    place = {"after_moment": NOW - timedelta(days=365), "after_session": "", "after_stream": ""}
    values = {**VALUES, **place, "in_namespace": "", "thorough": False}
    for statement, index in {
        removal.EXPIRED_SESSIONS: "ix_mcp_sessions_expires_at",
        retention.AGED: "ix_mcp_streams_namespace_created_at",
    }.items():
        found = await plan(full, statement, values)
        on_postgres = r"[^\n]*\n *Index Cond: [^\n]*_at <= [^\n]*statement_timestamp"
        bounded = r" \([^)]*at<\?" if full.startswith("sqlite") else on_postgres
        assert re.search(index + bounded, found), found


async def test_what_is_of_a_tenant_is_found_by_its_index(full: str) -> None:
    await _accounted(full)
    span = timedelta(minutes=5)
    values = {
        **VALUES,
        "in_namespace": "",
        "of_tenant": "tenant7",
        "idle_for": span,
        "after": "",
        "after_moment": NOW,
        "after_session": "",
        "after_stream": "",
        "thorough": False,
        "limit": 20,
    }
    searched = {
        policies.IDLE: "ix_mcp_sessions_tenant_last_seen_at",
        policies.SESSIONS: "ix_mcp_sessions_tenant",
        retention.AGED_OF_TENANT: "ix_mcp_sessions_tenant",
        audit.newest("tenant7", None): "ix_mcp_audit_namespace_tenant_created_at_entry_id",
        audit.newest(None, None): "ix_mcp_audit_namespace_created_at_entry_id",
        audit.FORGET: "ix_mcp_audit_namespace_expires_at",
    }
    for statement, index in searched.items():
        found = await plan(full, statement, values)
        assert index in found, (str(statement), found)
        assert not re.search(r"SCAN mcp_|Seq Scan on mcp_(audit|events|sessions|streams)", found), found


async def test_whether_a_removal_is_to_be_written_down_is_a_look_at_each_session(full: str) -> None:
    await _accounted(full)
    dialect = "sqlite" if full.startswith("sqlite") else "postgresql"
    keys = audit.KEYS.values(dialect, [("session7____________",)])
    found = await plan(full, audit.WATCHED[dialect], {"in_namespace": "", **keys})
    assert not re.search(r"SCAN (mcp_|own|other)|Seq Scan on mcp_(audit|sessions)", found), found
