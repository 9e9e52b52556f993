"""Any sequence of operations on the store is answered as a plain model in memory answers it.

A long run, here of 5000 examples on each kind of database:

    MCP_PERSIST_SA_TEST_EXAMPLES=5000 python -m pytest -o timeout=0 tests/stateful

A failure prints the steps that lead to it, and the seed; the same examples are run again with

    MCP_PERSIST_SA_TEST_SEED=<seed> python -m pytest tests/stateful
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.databases import ALL, SHARED, Database
from tests.stateful.machine import StoreMachine
from tests.stateful.world import World

# Each step of a cluster takes three times as long, and what runs on the oldest Redis runs on the others.
EXAMPLES = {kind: 200 if kind in SHARED and kind not in ("valkey-cluster", "redis-6.2") else 50 for kind in ALL}
STEPS = 25


def _examples(kind: str) -> int:
    return int(os.environ.get("MCP_PERSIST_SA_TEST_EXAMPLES") or EXAMPLES[kind])


def _seed() -> int:
    return int(os.environ.get("MCP_PERSIST_SA_TEST_SEED") or secrets.randbits(32))


@pytest.mark.parametrize("kind", ALL)
def test_the_store_answers_as_the_model_does(kind: str, new_database: Callable[[str], Database]) -> None:
    world = World(new_database(kind))
    number = _seed()
    print(f"MCP_PERSIST_SA_TEST_SEED={number}")

    @seed(number)
    def machine() -> StoreMachine:
        return StoreMachine(world)

    try:
        run_state_machine_as_test(
            machine,  # type: ignore[arg-type]
            settings=settings(
                max_examples=_examples(kind),
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                print_blob=True,
                phases=[Phase.generate, Phase.shrink],
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            ),
        )
    finally:
        world.close()
