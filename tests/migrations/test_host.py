"""A host application with an Alembic environment of its own, as in `examples/host_alembic`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.util import CommandError

from mcp_persist_sa import open_store
from mcp_persist_sa.errors import SchemaForeign, SchemaMissing
from mcp_persist_sa.migrate import script_location, upgrade
from mcp_persist_sa.schema import HEAD, VERSION_TABLE
from tests.migrations.extra import EXPAND
from tests.migrations.releases import next_release
from tests.migrations.support import Target
from tests.servers.processes import REPOSITORY

EXAMPLE = REPOSITORY / "examples" / "host_alembic"


class Host:
    """The example, in a folder of its own."""

    def __init__(self, folder: Path, target: Target) -> None:
        self.folder = shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self._environment = {**os.environ, "HOST_DATABASE_URL": target.async_url}
        together = folder / "together.ini"
        # In a checkout the revisions are not in the package; the wheel's tests use the file as it is.
        versions = str(script_location() / "versions").replace("%", "%%")
        together.write_text(together.read_text().replace("mcp_persist_sa:migrations/versions", versions))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def alembic(self, way: str, *words: str) -> str:
        done = self.run("-m", "alembic", "-c", f"{way}.ini", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def serve(self) -> str:
        done = self.run("application.py")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def host(target: Target, tmp_path: Path) -> Host:
    return Host(tmp_path / "host", target)


@pytest.mark.parametrize("first", ["host", "store"])
async def test_each_migrates_its_own_tables_in_whatever_order(target: Target, host: Host, first: str) -> None:
    if first == "store":
        await upgrade(target.dsn)
    host.alembic("separate", "upgrade", "head")
    await upgrade(target.dsn)
    assert "No new upgrade operations" in host.alembic("separate", "check")
    target.check()
    assert {"invoices", "alembic_version", "mcp_events", VERSION_TABLE} <= target.tables()
    assert host.serve() == "1 events"
    async with open_store(target.dsn, migrate=False) as store:
        assert len((await store.read("session", stream_id="stream")).events) == 1


async def test_each_goes_down_alone(target: Target, host: Host) -> None:
    host.alembic("separate", "upgrade", "head")
    await upgrade(target.dsn)
    host.alembic("separate", "downgrade", "base")
    assert "invoices" not in target.tables()
    target.check()
    host.alembic("separate", "upgrade", "head")
    target.downgrade("mcp_persist_sa@base")
    assert {"invoices", "alembic_version", VERSION_TABLE} == target.tables()
    assert "No new upgrade operations" in host.alembic("separate", "check")


async def test_without_the_filter_the_host_would_drop_our_tables(target: Target, host: Host) -> None:
    environment = host.folder / "migrations" / "env.py"
    environment.write_text(environment.read_text().replace("include_name=not_ours,", ""))
    host.alembic("separate", "upgrade", "head")
    await upgrade(target.dsn)
    done = host.run("-m", "alembic", "-c", "separate.ini", "check")
    assert done.returncode != 0
    assert "remove_table" in done.stderr + done.stdout


def test_the_filter_leaves_the_hosts_own_drift_to_be_found(target: Target, host: Host) -> None:
    host.alembic("separate", "upgrade", "head")
    target.execute("ALTER TABLE invoices ADD COLUMN extra INTEGER")
    done = host.run("-m", "alembic", "-c", "separate.ini", "check")
    assert done.returncode != 0
    assert "remove_column" in done.stderr + done.stdout


async def test_the_host_migrates_both_together(target: Target, host: Host) -> None:
    host.alembic("together", "upgrade", "heads")
    assert "No new upgrade operations" in host.alembic("together", "check")
    assert {row[0] for row in target.rows("SELECT version_num FROM alembic_version")} == {"host_0001", HEAD}
    assert VERSION_TABLE not in target.tables()
    assert host.serve() == "1 events"
    for migrate in (None, True, False):
        async with open_store(target.dsn, migrate=migrate) as store:
            assert len((await store.read("session", stream_id="stream")).events) == 1


async def test_what_the_host_makes_of_our_revisions_is_what_we_make_of_them(target: Target, host: Host) -> None:
    host.alembic("together", "upgrade", "heads")
    theirs = ("invoices", "ix_invoices", "alembic_version")
    made = {line for line in target.structure() if not line[0].startswith(theirs)}
    target.execute(*(f"DROP TABLE {name}" for name in target.tables()))
    target.upgrade()
    assert made == {line for line in target.structure() if not line[0].startswith(VERSION_TABLE)}


async def test_our_own_commands_refuse_tables_that_the_host_migrates(target: Target, host: Host) -> None:
    host.alembic("together", "upgrade", "heads")
    before = target.structure()
    with pytest.raises(SchemaForeign, match=r"host application's Alembic\. Run its `alembic upgrade heads`"):
        await upgrade(target.dsn)
    for act in (target.upgrade, lambda: target.downgrade("base"), target.check):
        with pytest.raises(CommandError, match="host application's Alembic"):
            act()
    assert target.structure() == before


async def test_a_newer_release_tells_whose_command_to_run(target: Target, host: Host, tmp_path: Path) -> None:
    host.alembic("together", "upgrade", "heads")
    newer = next_release(tmp_path, EXPAND)
    assert newer.run("open", target.dsn, migrate=False).startswith("SchemaBehind")
    said = newer.run("open", target.dsn, migrate=True)
    assert said.startswith("SchemaForeign")
    assert "`alembic upgrade heads`" in said


async def test_our_branch_goes_down_alone(target: Target, host: Host) -> None:
    host.alembic("together", "upgrade", "heads")
    host.alembic("together", "downgrade", "mcp_persist_sa@base")
    assert target.tables() == {"invoices", "alembic_version"}
    with pytest.raises(SchemaMissing):
        async with open_store(target.dsn, migrate=False):
            pass


def test_the_host_writes_revisions_of_its_own_beside_ours(target: Target, host: Host) -> None:
    host.alembic("together", "upgrade", "heads")
    place = ["--head", "host@head", "--version-path", "migrations/versions"]
    host.alembic("together", "revision", *place, "--autogenerate", "-m", "nothing", "--rev-id", "host_0002")
    [written] = (host.folder / "migrations" / "versions").glob("host_0002_*.py")
    assert "mcp_" not in written.read_text()
    host.alembic("together", "upgrade", "heads")
    assert "host_0002" in host.alembic("together", "current")
