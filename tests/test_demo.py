"""The demonstration of the README, as its user runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.processes import REPOSITORY

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))


async def _demo(*words: str) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(COMMAND, "demo", *words, stdout=pipe, stderr=pipe)
    try:
        said, errors = await asyncio.wait_for(child.communicate(), 60)
    finally:
        if child.returncode is None:
            child.kill()
    return child.returncode, said.decode(), errors.decode()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_killed_writer_loses_and_doubles_nothing(kind: str, new_postgres: Callable[[], str]) -> None:
    dsn = new_postgres() if kind == "postgres" else ""
    code, said, errors = await _demo("--events", "60", *(["--dsn", dsn] if dsn else []))
    assert (code, errors) == (0, "")
    assert "0 lost, 0 doubled, in order" in said


async def test_a_database_that_two_processes_cannot_share_is_refused() -> None:
    code, _, errors = await _demo("--dsn", "sqlite://")
    assert code == 1
    assert "Name a file" in errors


def test_the_readme_s_command_is_this_one() -> None:
    assert ".venv/bin/mcp-persist-sa demo\n" in (REPOSITORY / "README.md").read_text()
