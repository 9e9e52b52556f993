"""Fixtures for moving: two databases, of each pair of kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mcp_persist_sa.dsn import ENVIRONMENT
from tests.contract.support import Clock
from tests.databases import DISTINCT, Database, make
from tests.moving.mcp_persist import Old

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))
PATIENCE = 60

PAIRS = [("postgres", "sqlite"), ("sqlite", "valkey-cluster"), ("valkey-cluster", "postgres")]


class Pair:
    """A source and a target."""

    def __init__(self, source: Database, target: Database) -> None:
        self.source = source
        self.target = target


@pytest.fixture(params=PAIRS, ids=lambda pair: "-to-".join(pair))
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str], new_redis: Callable[[str], str]
) -> AsyncIterator[Pair]:
    """Two empty databases."""
    made: list[Database] = []
    for name, kind in zip(("source", "target"), request.param, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        made.append(make(kind, folder, new_postgres, new_redis))
    yield Pair(*made)
    for database in made:
        await database.close()


@pytest.fixture(params=["sqlite", "postgres"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Old:
    """An empty database, for mcp-persist."""
    if request.param == "sqlite":
        return Old("sqlite", f"sqlite:///{tmp_path / 'old.db'}")
    return Old("postgres", request.getfixturevalue("postgres_database"))


@pytest.fixture(params=DISTINCT)
async def new(request: pytest.FixtureRequest, new_database: Callable[[str], Database]) -> AsyncIterator[Database]:
    made = new_database(request.param)
    yield made
    await made.close()


@pytest.fixture
def clock() -> Clock:
    """A clock for `database.open(clock=clock)`."""
    return Clock()


class Said(NamedTuple):
    code: int
    out: str
    errors: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*words: str, **environment: str) -> Said:
        clean = {name: value for name, value in os.environ.items() if name != ENVIRONMENT}
        done = subprocess.run(
            [COMMAND, *words],
            cwd=tmp_path,
            env={**clean, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return call
