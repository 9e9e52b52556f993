"""The demonstration of the README, as its user runs it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import Database
from tests.nodes import environments
from tests.servers.processes import REPOSITORY

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))
PROMISED = [
    "connection was cut",
    "resumed after Last-Event-ID",
    "was killed (SIGKILL",
    "ended before it could answer",
    "each once",
    "The session is the same",
    "Its state, stored before the kill, is there",
]


async def demo(*words: str, command: tuple[str, ...] = (COMMAND,)) -> tuple[int | None, str, str]:
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, "demo", *words, stdout=pipe, stderr=pipe, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    try:
        said, errors = await asyncio.wait_for(child.communicate(), 200)
    finally:
        if child.returncode is None:
            child.kill()
    return child.returncode, said.decode(), errors.decode()


@pytest.mark.parametrize(
    ("kind", "nodes"), [("sqlite", "1"), ("sqlite", "2"), ("postgres", "1"), ("postgres", "2"), ("valkey", "2")]
)
async def test_a_session_outlives_a_cut_and_a_kill(
    kind: str, nodes: str, new_database: Callable[[str], Database]
) -> None:
    dsn = [] if kind == "sqlite" else ["--dsn", new_database(kind).dsn]
    code, said, errors = await demo("--events", "100", "--nodes", nodes, *dsn)
    assert (code, errors) == (0, ""), said
    assert all(promise in said for promise in PROMISED), said
    assert said.count("0 lost, 0 doubled, in order") == 3
    assert ("led to the other node" in said) is (nodes == "2")
    assert "NOT SO" not in said


async def test_it_runs_on_the_first_line_of_the_sdk(tmp_path_factory: pytest.TempPathFactory) -> None:
    interpreter = str(environments.interpreter("mcp1", tmp_path_factory))
    program = "from mcp_persist_sa.cli import main; main()"
    code, said, _ = await demo("--events", "100", "--nodes", "2", command=(interpreter, "-c", program))
    assert code == 0, said
    assert said.count("0 lost, 0 doubled, in order") == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--dsn", "sqlite://"], "Name a file"),
        (["--dsn", "sqlite:////nowhere/at/all/x.db"], "Error: "),
        (["--dsn", "postgresql://user:hunter2@127.0.0.1:1/db"], "can be reached"),
    ],
)
async def test_a_database_that_cannot_be_used_is_refused_on_one_line(words: list[str], reason: str) -> None:
    code, said, errors = await demo(*words)
    assert (code, said, errors.count("\n")) == (1, "", 1)
    assert reason in errors
    assert "hunter2" not in errors


async def test_a_promise_that_is_broken_is_said_and_ends_with_an_error() -> None:
    program = (
        "from mcp_persist_sa.cli import main\n"
        "from mcp_persist_sa.demo import client\n"
        "client.Heard.lost = lambda heard, to: 1\n"
        "main()"
    )
    code, said, errors = await demo("--events", "100", command=(sys.executable, "-c", program))
    assert code == 1
    assert re.search(r"NOT SO: \d+ progress events: 1 lost", said)
    assert "A promise was broken" in errors


def test_the_readme_s_command_is_this_one() -> None:
    assert ".venv/bin/mcp-persist-sa demo\n" in (REPOSITORY / "README.md").read_text()
