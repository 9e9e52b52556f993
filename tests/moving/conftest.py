"""Fixtures for moving: two databases, of each pair of kinds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.databases import SHARED, Database, make

PAIRS = [(source, target) for source in SHARED for target in SHARED]


class Pair:
    """A source and a target."""

    def __init__(self, source: Database, target: Database) -> None:
        self.source = source
        self.target = target


@pytest.fixture(params=PAIRS, ids=lambda pair: "-to-".join(pair))
async def pair(request: pytest.FixtureRequest, tmp_path: Path, new_postgres: Callable[[], str]) -> AsyncIterator[Pair]:
    """Two empty databases."""
    made: list[Database] = []
    for name, kind in zip(("source", "target"), request.param, strict=True):
        folder = tmp_path / name
        folder.mkdir()
        made.append(make(kind, folder, new_postgres))
    yield Pair(*made)
    for database in made:
        await database.close()
