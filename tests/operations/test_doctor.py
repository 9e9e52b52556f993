"""The doctor: says what is wrong, and what to do, and is content with what is well."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from mcp_persist_sa import LoggingMetrics, Store
from mcp_persist_sa.backends.sql.examining import sqlite
from mcp_persist_sa.migrate import upgrade
from mcp_persist_sa.operations import doctor
from mcp_persist_sa.oversight import Finding
from tests.contract.support import PATIENCE, Clock, execute
from tests.databases import Database
from tests.migrations.support import Target
from tests.servers import PgBouncer, PostgresServer


async def examined(dsn: str, **options: object) -> dict[str, Finding]:
    findings = [finding async for finding in doctor(dsn, **options)]
    assert len({finding.check for finding in findings}) == len(findings)
    assert all(finding.advice for finding in findings if finding.status == "wrong")
    return {finding.check: finding for finding in findings}


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def wrong(findings: dict[str, Finding]) -> list[str]:
    return [check for check, finding in findings.items() if finding.status == "wrong"]


async def test_what_is_well_is_found_well(shared_database: Database) -> None:
    await shared_database.open()
    findings = await examined(shared_database.dsn)
    assert wrong(findings) == []
    for check in ("runtime", "drivers", "retention", "connection", "revision", "rights", "clock", "housekeeping"):
        assert findings[check].status == "ok", findings[check]
    # Redis of the tests leaves it to the kernel when it writes to disk.
    assert findings["durability"].status == ("note" if shared_database.is_redis else "ok")
    assert findings["hearing"].status == "ok"
    assert "hunter2" not in str(findings)


FAILING = [
    ("postgresql://user:hunter2@127.0.0.1:1/db", {}, "connection", "can be reached"),
    ("redis://user:hunter2@127.0.0.1:1/0", {"timeout": 0.3}, "connection", "can be reached"),
    ("postgres//user:hunter2@h/db", {}, "DSN", "begins with"),
    ("sqlite:///x.db?pool_size=none", {}, "options", "pool_size"),
    ("sqlite://", {"schema": "other"}, "options", "Postgres"),
    ("sqlite:///x.db", {}, "connection", "does not exist"),
    ("sqlite:////nowhere/at/all/x.db", {}, "connection", "does not exist"),
]


@pytest.mark.parametrize(("dsn", "options", "check", "reason"), FAILING, ids=lambda value: str(value)[:12])
async def test_what_cannot_be_opened_is_a_finding(
    dsn: str, options: dict[str, object], check: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    findings = await examined(dsn, **options)
    assert wrong(findings) == [check] == list(findings)[-1:]
    assert reason in (findings[check].advice or "")
    assert "hunter2" not in str(findings)
    assert names(tmp_path) == []


async def test_tables_that_are_missing_are_a_finding(postgres_database: str) -> None:
    findings = await examined(postgres_database)
    assert wrong(findings) == ["revision"]
    assert "mcp-persist-sa upgrade" in (findings["revision"].advice or "")


class Looking(LoggingMetrics):
    """Tells when somebody looks for a stream."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    def operation(self, name: str, system: str) -> AbstractContextManager[object]:
        if name == "locate":
            self.begun.set()
        return nullcontext()


async def test_it_is_cancelled_while_it_listens(tmp_path: Path) -> None:
    dsn, looking = f"sqlite:///{tmp_path / 'store.db'}", Looking()
    await upgrade(dsn)
    examining = asyncio.ensure_future(examined(dsn, background=False, metrics=looking))
    await asyncio.wait_for(looking.begun.wait(), PATIENCE)
    examining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await examining


async def test_what_is_kept_for_ever_and_done_by_nobody_is_said(shared_database: Database) -> None:
    await shared_database.open()
    findings = await examined(shared_database.dsn, event_ttl=None, background=False)
    assert "event_ttl" in findings["retention"].found
    assert [findings[check].status for check in ("retention", "background", "hearing")] == ["note"] * 3
    assert wrong(findings) == []


async def test_what_nobody_removes_is_found(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, session_ttl=60)
    await store.sessions.create()
    clock.advance(minutes=60)
    assert "housekeeping" not in wrong({finding.check: finding for finding in await store.examine()})
    clock.advance(minutes=2)
    found = {finding.check: finding for finding in await store.examine()}
    assert "housekeeping" in wrong(found)
    assert "1 sessions" in found["housekeeping"].found
    await store.purge()
    assert "housekeeping" not in wrong({finding.check: finding for finding in await store.examine()})


async def test_a_clock_that_went_back_is_found(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock)
    await store.sessions.create()
    clock.advance(hours=-1)
    found = {finding.check: finding for finding in await store.examine()}
    assert "clock" in wrong(found)
    assert str(timedelta(hours=1)) in found["clock"].found


# SQLite


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
async def test_a_file_that_is_not_on_this_machine_is_found(kind: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nhost:/x {tmp_path}/my\\040disk {kind} rw 0 0\n")
    assert sqlite.file_system(tmp_path / "store.db", mounts).status == "ok"
    found = sqlite.file_system(tmp_path / "my disk" / "store.db", mounts)
    assert found.status == "wrong"
    assert kind in found.found


async def test_a_disk_that_is_nearly_full_is_found(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.write_bytes(b"x")
    assert sqlite.room(file, 2**20).status == "wrong"
    assert sqlite.room(file, shutil.disk_usage(tmp_path).free).status == "ok"


async def test_a_file_without_a_write_ahead_log_is_found(tmp_path: Path) -> None:
    await upgrade(f"sqlite:///{tmp_path / 'store.db'}")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    async with engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA journal_mode = DELETE")
    async with Store(engine) as store:
        assert "journal" in wrong({finding.check: finding for finding in await store.examine()})
    await engine.dispose()


async def test_a_file_that_others_can_read_is_said_until_they_cannot(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "store.db"
    file.touch()
    for inside, mode, status in ((0o755, 0o644, "note"), (0o755, 0o640, "ok"), (0o750, 0o644, "ok")):
        folder.chmod(inside)
        file.chmod(mode)
        assert sqlite.rights(file, [folder]).status == status


# Postgres


async def test_a_right_that_is_missing_is_found_and_what_is_advised_gives_it(postgres_target: Target) -> None:
    await upgrade(postgres_target.dsn, schema="ours")
    role = f"role-{secrets.token_hex(8)}"
    postgres_target.execute(
        f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'hunter2'",
        f'GRANT USAGE ON SCHEMA ours TO "{role}"',
        f'GRANT SELECT ON ALL TABLES IN SCHEMA ours TO "{role}"',
    )
    host = postgres_target.dsn.partition("@")[2]
    dsn = f"postgresql://{role}:hunter2@{host}?schema=ours"
    try:
        findings = await examined(dsn)
        assert wrong(findings) == ["rights"]
        assert findings["role"].status == "ok"
        postgres_target.execute((findings["rights"].advice or "").rstrip(";"))
        assert wrong(await examined(dsn)) == []
        assert (await examined(dsn.replace("hunter2", "hunter3")))["access"].status == "wrong"
    finally:
        postgres_target.execute(f'DROP OWNED BY "{role}"', f'DROP ROLE "{role}"')


SETTINGS = [
    ("synchronous_commit = off", "durability"),
    ("default_transaction_read_only = on", "writing"),
]


@pytest.mark.parametrize(("setting", "check"), SETTINGS)
async def test_settings_that_break_promises_are_found(
    setting: str, check: str, new_postgres: Callable[[], str]
) -> None:
    dsn = new_postgres()
    name = dsn.rpartition("/")[2].partition("?")[0]
    database = Database("postgres", dsn)
    await execute(database, f'ALTER DATABASE "{name}" SET {setting}')
    assert wrong(await examined(dsn)) == [check]


@pytest.mark.parametrize("own_postgres", [{"fsync": "off"}], indirect=True)
async def test_a_server_that_does_not_sync_is_found(own_postgres: PostgresServer) -> None:
    dsn = own_postgres.create_database("unsafe")
    await upgrade(dsn)
    assert "durability" in wrong(await examined(dsn))


async def test_too_few_connections_are_said(new_postgres: Callable[[], str]) -> None:
    findings = await examined(f"{new_postgres()}?pool_size=5000")
    assert findings["connections"].status == "note"


async def test_a_pooler_is_said(pgbouncer: PgBouncer, new_postgres: Callable[[], str]) -> None:
    findings = await examined(pgbouncer.dsn(new_postgres()))
    assert wrong(findings) == []
    assert findings["pooler"].status == findings["hearing"].status == "note"
