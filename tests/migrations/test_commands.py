"""Alembic's own command line at the root of the repository, and SQL for a database administrator."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import asyncpg
import pytest
from alembic import command

from mcp_persist_sa import open_store
from mcp_persist_sa.dsn import ENVIRONMENT
from mcp_persist_sa.migrate import script_location
from mcp_persist_sa.schema import HEAD, VERSION_TABLE
from tests.migrations.extra import EXPAND, REBUILD, add_revision
from tests.migrations.support import Target
from tests.servers.processes import REPOSITORY

ODD = 'An "odd" näme: 100%'
"""A schema whose name has to be quoted in every way there is."""


def alembic(*words: str, dsn: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run Alembic at the root, with the DSN in the environment."""
    environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT}
    if dsn is not None:
        environment[ENVIRONMENT] = dsn
    return subprocess.run(
        [sys.executable, "-m", "alembic", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def succeeds(*words: str, dsn: str | None = None) -> str:
    done = alembic(*words, dsn=dsn)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fails(*words: str, dsn: str | None = None) -> str:
    done = alembic(*words, dsn=dsn)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr + done.stdout


def test_the_dsn_of_the_environment_is_upgraded_and_checked_and_taken_down(target: Target) -> None:
    succeeds("upgrade", "head", dsn=target.dsn)
    assert target.versions() == [HEAD]
    assert f"{HEAD} (head)" in succeeds("current", "--check-heads", dsn=target.dsn)
    assert "No new upgrade operations" in succeeds("check", dsn=target.dsn)
    succeeds("downgrade", "mcp_persist_sa@base", dsn=target.dsn)
    assert target.tables() == {VERSION_TABLE}


def test_a_dsn_on_the_command_line_goes_before_that_of_the_environment(target: Target) -> None:
    succeeds("-x", f"url={target.dsn}", "upgrade", "head", dsn="postgresql://127.0.0.1:1/nowhere")
    assert target.versions() == [HEAD]


def test_without_a_dsn_alembic_says_how_to_give_one() -> None:
    assert f"set {ENVIRONMENT}, or give -x url=" in fails("upgrade", "head")


def test_a_misspelt_argument_is_not_ignored(sqlite_target: Target) -> None:
    assert "no -x ulr=" in fails("-x", "ulr=sqlite:///other.db", "upgrade", "head", dsn=sqlite_target.dsn)
    assert sqlite_target.tables() == set()


def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    said = fails("upgrade", "head", dsn="postgresql://user:geheim@127.0.0.1:1/nowhere")
    assert "not available" in said
    assert "geheim" not in said


def test_the_history_names_our_branch() -> None:
    assert "(mcp_persist_sa)" in succeeds("history")


@pytest.mark.parametrize("name", ["other", ODD])
def test_a_schema_on_the_command_line_holds_the_tables(postgres_target: Target, name: str) -> None:
    place = ["-x", f"schema={name}"]
    succeeds(*place, "upgrade", "head", dsn=postgres_target.dsn)
    assert postgres_target.tables() == set()
    assert "No new upgrade operations" in succeeds(*place, "check", dsn=postgres_target.dsn)
    assert f"{HEAD} (head)" in succeeds("current", dsn=f"{postgres_target.dsn}?schema={quote(name)}")
    assert {line[0] for line in postgres_target.structure(name)} >= {"mcp_events", VERSION_TABLE}


# SQL for a database administrator


def apply(target: Target, sql: str) -> None:
    """Run a script as a DBA would: with the database's own client, past SQLAlchemy."""
    if not target.is_postgres:
        with closing(sqlite3.connect(unquote(urlsplit(target.dsn).path[1:]))) as connection:
            connection.executescript(sql)
        return

    async def run() -> None:
        connection = await asyncpg.connect(target.dsn)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(run())


def test_the_sql_makes_the_same_tables(target: Target) -> None:
    sql = succeeds("upgrade", "head", "--sql", dsn=target.dsn)
    assert target.tables() == set()
    apply(target, sql)
    scripted = target.structure()
    target.check()
    target.downgrade("base")
    target.execute(f"DROP TABLE {VERSION_TABLE}")
    target.upgrade()
    assert target.structure() == scripted


async def test_a_store_opens_on_what_the_sql_made(target: Target) -> None:
    await asyncio.to_thread(lambda: apply(target, succeeds("upgrade", "head", "--sql", dsn=target.dsn)))
    async with open_store(target.dsn, migrate=False) as store:
        await store.append("session", "stream", "{}")


def test_the_sql_can_be_had_without_a_server_and_undone() -> None:
    nowhere = "postgresql://user:geheim@127.0.0.1:1/nowhere"
    sql = succeeds("upgrade", "head", "--sql", dsn=nowhere)
    assert sql.startswith("BEGIN;")
    assert sql.rstrip().endswith("COMMIT;")
    assert "geheim" not in sql
    assert "DROP TABLE mcp_events" in succeeds("downgrade", f"{HEAD}:base", "--sql", dsn=nowhere)


@pytest.mark.parametrize("name", ["other", ODD])
@pytest.mark.parametrize("by", ["argument", "dsn"])
def test_the_sql_is_for_the_schema(postgres_target: Target, name: str, by: str) -> None:
    if by == "dsn":
        sql = succeeds("upgrade", "head", "--sql", dsn=f"{postgres_target.dsn}?schema={quote(name)}")
    else:
        sql = succeeds("-x", f"schema={name}", "upgrade", "head", "--sql", dsn=postgres_target.dsn)
    apply(postgres_target, sql)
    assert postgres_target.tables() == set()
    postgres_target.check(schema=name)


def test_sql_of_a_sqlite_revision_that_adds_is_written(
    sqlite_target: Target, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_revision(folder, EXPAND)
    command.upgrade(sqlite_target.config(folder), "head", sql=True)
    apply(sqlite_target, capsys.readouterr().out)
    assert "mcp_extra" in sqlite_target.tables()


def test_sql_of_a_sqlite_revision_that_rebuilds_is_refused_and_of_the_same_on_postgres_is_not(
    sqlite_target: Target, postgres_target: Target, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_revision(folder, REBUILD)
    with pytest.raises(Exception, match="requires a live database connection"):
        command.upgrade(sqlite_target.config(folder), "head", sql=True)
    capsys.readouterr()
    command.upgrade(postgres_target.config(folder), "head", sql=True)
    apply(postgres_target, capsys.readouterr().out)
    assert ("mcp_events", "size", "bigint") in {line[:3] for line in postgres_target.structure()}


def test_what_the_environment_documents_of_this_is_there() -> None:
    said = " ".join((script_location() / "env.py").read_text().split())
    assert "a revision that rebuilds a SQLite table has to be run online" in said
