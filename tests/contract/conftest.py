"""Fixtures for the contract tests."""

from __future__ import annotations

import pytest

from tests.contract.support import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock for `database.open(clock=clock)`."""
    return Clock()
