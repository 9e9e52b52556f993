"""Policies of tenants, and the trail of what was removed, for whoever operates a store."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable

from tests.contract.support import PATIENCE, Clock, execute, fill
from tests.databases import Database
from tests.operations.support import Said, until
from tests.servers import ChildProcess

Run = Callable[..., asyncio.Future[Said]]
_AUDITED = ("--audit-ttl", "1000000000")


async def test_policies_are_written_listed_and_removed(sql_database: Database, run_on: Run) -> None:
    await sql_database.open()
    assert (await run_on(sql_database.dsn, "policies", "list")).out == "There are no policies.\n"
    assert (await run_on(sql_database.dsn, "policies", "list", "--json")).out == ""
    policy = {"tenant": "acme", "session_ttl": 60.0, "event_ttl": None, "max_events": 5, "audit_ttl": None}
    written = await run_on(
        sql_database.dsn, "policies", "set", "acme", "--session-ttl", "60", "--max-events", "5", "--json"
    )
    assert (written.code, written.errors, written.lines) == (0, "", [policy])
    other = {**dict.fromkeys(policy), "audit_ttl": 1e9}
    assert (await run_on(sql_database.dsn, "policies", "set", *_AUDITED, "--json")).lines == [other]
    assert (await run_on(sql_database.dsn, "policies", "list", "--json")).lines == [other, policy]
    plain = await run_on(sql_database.dsn, "policies", "list")
    assert " ".join(plain.out.splitlines()[0].split()) == "tenant session ttl event ttl max events audit ttl"
    assert [line.split()[-1] for line in plain.out.splitlines()[1:]] == ["1,000,000,000", "-"]
    assert (await run_on(sql_database.dsn, "policies", "remove", "acme", "--json")).lines == [{"removed": True}]
    assert (await run_on(sql_database.dsn, "policies", "remove", "acme")).out == "There was none.\n"
    assert (await run_on(sql_database.dsn, "policies", "remove")).out == "The policy is removed.\n"


async def test_what_is_no_policy_is_refused(sql_database: Database, run_on: Run) -> None:
    await sql_database.open()
    for words, code, reason in (
        (["acme"], 2, "at least one of"),
        (["acme", "--event-ttl", "0"], 2, "not in the range"),
        (["acme", "--max-events", "x"], 2, "not a valid integer"),
        (["acme", "--event-ttl", "100000"], 1, "Raise that option"),
        (["", "--event-ttl", "100"], 1, "has a name"),
        (["--event-ttl", "100"], 1, "the options of the store"),
    ):
        refused = await run_on(sql_database.dsn, "policies", "set", *words)
        assert (refused.code, refused.out) == (code, ""), words
        assert reason in refused.errors
    longer = sql_database.dsn + ("&" if "?" in sql_database.dsn else "?") + "event_ttl=200000"
    assert (await run_on(longer, "policies", "set", "acme", "--event-ttl", "100000")).code == 0


async def test_what_was_removed_is_listed(sql_database: Database, run_on: Run) -> None:
    past = Clock()
    past.advance(days=-3650)
    store = await sql_database.open(clock=past)
    for tenant in ("acme", "\x1b[31mred"):
        await store.sessions.create(tenant.strip("\x1b"), tenant=tenant)
    await fill(store, "acme", "1", 3)
    assert (await run_on(sql_database.dsn, "policies", "set", *_AUDITED)).code == 0
    for words in (["--dry-run"], []):
        purged = await run_on(sql_database.dsn, "purge", "--json", *words)
        assert purged.lines == [{"sessions": 2, "streams": 1, "events": 3, "state": 0}]
    listed = await run_on(sql_database.dsn, "audit", "--tenant", "acme", "--json")
    [entry] = listed.lines
    assert re.fullmatch(r"\d{4}-.*T.*\+00:00", str(entry.pop("at")))
    counts = {"sessions": 1, "streams": 1, "events": 3, "state": 0}
    assert entry == {"tenant": "acme", "reason": "session expired", "by": "purge", **counts}
    first = await run_on(sql_database.dsn, "audit", "--limit", "1", "--json")
    place = re.search(r"--after '(.*)'", first.errors)
    assert place is not None
    rest = await run_on(sql_database.dsn, "audit", "--after", place[1], "--json")
    assert {line["tenant"] for line in first.lines + rest.lines} == {"acme", "\x1b[31mred"}
    assert "\x1b" not in (await run_on(sql_database.dsn, "audit")).out
    assert (await run_on(sql_database.dsn, "audit", "--after", "x")).code == 1
    assert (await run_on(sql_database.dsn, "audit", "--tenant", "x")).out == "Nothing is known to have been removed.\n"


async def test_redis_refuses(redis_database: Database, run_on: Run) -> None:
    for words in (("policies", "list"), ("policies", "set", "acme", *_AUDITED), ("policies", "remove"), ("audit",)):
        refused = await run_on(redis_database.dsn, *words)
        assert (refused.code, refused.out) == (1, "")
        assert "namespace with options of its own" in refused.errors


async def test_of_one_that_is_killed_all_that_it_removed_is_known(sql_database: Database) -> None:
    sessions, each = 500, 50
    past = Clock()
    past.advance(days=-3650)
    store = await sql_database.open(clock=past)
    await store.policies.set("acme", audit_ttl=10**9)
    for n in range(sessions):
        await store.sessions.create(str(n), tenant="acme")
    await asyncio.gather(*(fill(store, str(n), "1", each) for n in range(sessions)))

    async def figures() -> tuple[int, int]:
        [row] = await execute(
            sql_database, "SELECT (SELECT count(*) FROM mcp_events), (SELECT coalesce(sum(events), 0) FROM mcp_audit)"
        )
        return row[0], int(row[1])

    total = sessions * each
    arguments = json.dumps([sql_database.dsn, {"purge_interval": 0.05, "node_lease": 1}])
    killed: set[str] = set()
    # It may be done before it is killed, on a machine that is busy.
    while len(killed) < 3 and (before := (await figures())[0]):
        async with ChildProcess("-m", "tests.operations.child_node", arguments, timeout=PATIENCE) as child:
            killed.add(await child.read_line())
            await until(lambda found, before=before: found[0] < before, figures)
            await child.kill()
        left, known = await figures()
        assert left + known == total
    by = {entry.by for entry in (await store.audit(tenant="acme", limit=10_000)).entries}
    assert by == killed
