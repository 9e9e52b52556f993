"""Fixtures for the tests of operations."""

from __future__ import annotations

import pytest

from tests.contract.support import Clock
from tests.migrations.support import Target


@pytest.fixture
def clock() -> Clock:
    """A clock for `database.open(clock=clock)`."""
    return Clock()


@pytest.fixture
def postgres_target(postgres_database: str) -> Target:
    return Target("postgresql", postgres_database)
