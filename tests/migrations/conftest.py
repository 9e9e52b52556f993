"""Databases with nothing in them, and migrations to play with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mcp_persist_sa.migrate import script_location
from tests.migrations.support import Target


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """An empty database of each dialect; the SQLite file does not exist yet."""
    if request.param == "sqlite":
        return Target("sqlite", f"sqlite:///{tmp_path / 'empty.db'}")
    return Target("postgresql", request.getfixturevalue("postgres_database"))


@pytest.fixture
def sqlite_target(tmp_path: Path) -> Target:
    return Target("sqlite", f"sqlite:///{tmp_path / 'empty.db'}")


@pytest.fixture
def postgres_target(postgres_database: str) -> Target:
    return Target("postgresql", postgres_database)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of our migrations, for a test to add revisions to."""
    return shutil.copytree(script_location(), tmp_path / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
