"""The wheel, installed by pip outside the checkout, migrates and checks."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from mcp_persist_sa.migrate import script_location
from mcp_persist_sa.schema import HEAD
from tests import installed as installed_package
from tests.installed import Environment
from tests.migrations.support import Target
from tests.servers.processes import REPOSITORY

pytestmark = [pytest.mark.xdist_group("wheel"), pytest.mark.timeout(900)]

UPGRADE = """
import asyncio, sys
from alembic import command
from mcp_persist_sa import migrate, open_store

async def main(dsn):
    await migrate.upgrade(dsn)
    async with open_store(dsn, migrate=False) as store:
        await store.append("session", "stream", "{}")
    command.current(migrate.alembic_config(dsn=dsn), check_heads=True)
    command.check(migrate.alembic_config(dsn=dsn))
    print(migrate.script_location())

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed_package.wheel(tmp_path_factory)


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with its dependencies and those of Postgres, and nothing else."""

    def install(folder: Path) -> None:
        Environment.make(folder / "venv", sys.executable, f"{wheel}[postgres]")

    return Environment(installed_package.once(tmp_path_factory, "installed", install) / "venv")


def test_the_wheel_holds_the_package_with_the_migrations_in_it_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"mcp_persist_sa"}
    ours = {f"mcp_persist_sa/migrations/{path.relative_to(script_location())}" for path in _migrations()}
    assert {name for name in names if "/migrations/" in name} == ours
    assert "mcp_persist_sa/py.typed" in names


def _migrations() -> list[Path]:
    return [path for path in script_location().rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_it_upgrades_and_checks_outside_the_checkout(installed: Environment, target: Target) -> None:
    said = installed.run("python", "-c", UPGRADE, target.dsn)
    assert f"{HEAD} (head)" in said
    assert "No new upgrade operations detected." in said
    assert said.splitlines()[-1] == str(installed.site_packages / "mcp_persist_sa" / "migrations")
    assert not (installed.site_packages / "migrations").exists()
    target.check()


def test_its_command_upgrades_and_checks_outside_the_checkout(installed: Environment, target: Target) -> None:
    installed.run("mcp-persist-sa", "upgrade", "--dsn", target.dsn)
    assert HEAD in installed.run("mcp-persist-sa", "current", "--check-heads", "--dsn", target.dsn)
    installed.run("mcp-persist-sa", "check", "--dsn", target.dsn)


@pytest.mark.parametrize("way", ["separate", "together"])
def test_a_host_application_uses_it_as_the_example_says(
    installed: Environment, target: Target, tmp_path: Path, way: str
) -> None:
    example = shutil.copytree(REPOSITORY / "examples" / "host_alembic", tmp_path / "host")
    url = target.async_url

    def host(program: str, *words: str) -> str:
        return installed.run(program, *words, cwd=example, HOST_DATABASE_URL=url)

    host("alembic", "-c", f"{way}.ini", "upgrade", "heads")
    if way == "separate":
        host("mcp-persist-sa", "upgrade", "--dsn", url)
    assert "No new upgrade operations detected." in host("alembic", "-c", f"{way}.ini", "check")
    assert host("python", "application.py") == "1 events"


def test_an_editable_installation_has_no_copy_of_the_migrations(tmp_path: Path) -> None:
    environment = Environment.make(tmp_path / "venv", sys.executable, "--no-deps", "-e", REPOSITORY)
    assert {path.suffix for path in environment.site_packages.glob("*mcp_persist_sa*")} == {".pth", ".dist-info"}
    code = "import importlib.util as u; print(u.find_spec('mcp_persist_sa').origin)"
    assert environment.run("python", "-c", code) == str(REPOSITORY / "mcp_persist_sa" / "__init__.py")
