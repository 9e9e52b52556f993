"""The command line, as a pipeline and a database administrator run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_persist_sa import open_store
from mcp_persist_sa.dsn import DEFAULT_FILE, ENVIRONMENT
from mcp_persist_sa.schema import HEAD

COMMAND = str(Path(sys.executable).with_name("mcp-persist-sa"))


@pytest.fixture(params=["sqlite", "postgres"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return request.getfixturevalue("postgres_database")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Gives the exit code, and what was said and complained of."""

    def call(*words: str, dsn: str | None = None) -> tuple[int, str, str]:
        environment = {name: value for name, value in os.environ.items() if name != ENVIRONMENT}
        if dsn is not None:
            environment[ENVIRONMENT] = dsn
        done = subprocess.run(
            [COMMAND, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.returncode, done.stdout, done.stderr

    return call


async def test_a_database_goes_up_and_down_by_command(dsn: str, run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("current", "--check-heads", dsn=dsn)[0] == 1
    assert run("check", dsn=dsn)[0] == 1
    assert run("upgrade", dsn=dsn) == (0, "The database is at head.\n", "")
    assert run("upgrade", "--dsn", dsn)[0] == 0
    async with open_store(dsn, migrate=False) as store:
        await store.append("session", "1", "x")
    code, said, _ = run("current", "--check-heads", dsn=dsn)
    assert (code, said.strip()) == (0, f"{HEAD} (head)")
    assert run("check", dsn=dsn)[0] == 0
    assert run("downgrade", "base", dsn=dsn)[0] == 0
    assert run("check", dsn=dsn)[0] == 1


def test_the_sql_is_printed_and_nothing_is_touched(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for dsn in ("postgresql://user:hunter2@host.invalid/db?schema=other", f"sqlite:///{tmp_path / 'none.db'}"):
        for words in (["upgrade"], ["downgrade", f"{HEAD}:base"]):
            code, said, errors = run(*words, "--sql", "--dsn", dsn)
            assert (code, errors) == (0, "")
            assert "mcp_events" in said
            assert "hunter2" not in said
            assert ("CREATE SCHEMA IF NOT EXISTS other" in said) is dsn.startswith("postgresql")
    assert list(tmp_path.iterdir()) == []


def test_the_history_needs_no_database(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, said, errors = run("history")
    assert (code, errors) == (0, "")
    assert HEAD in said
    assert list(tmp_path.iterdir()) == []


def test_without_a_dsn_a_file_is_used_and_said(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, errors = run("upgrade")
    assert code == 0
    assert DEFAULT_FILE in errors
    assert (tmp_path / DEFAULT_FILE).exists()


REFUSED = [
    (["upgrade", "--dsn", "postgresql://user:hunter2@127.0.0.1:1/db"], "can be reached"),
    (["upgrade", "--dsn", "postgres//user:hunter2@h/db"], "begins with"),
    (["upgrade", "--dsn", "postgresql://user:hunter2@h/db?pool_siz=1"], "pool_size"),
    (["upgrade", "--dsn", "redis://user:hunter2@h"], "Redis"),
    (["upgrade", "nonsense", "--dsn", "sqlite://"], "nonsense"),
    (["check", "--dsn", "sqlite:///none/x.db"], "does not exist"),
    (["upgrade", "--dsn", "sqlite://", "--schema", "other"], "Postgres"),
    (["current", "--dsn", "sqlite://"], "in memory"),
    (["upgrade", "--dsn", ""], "begins with"),
]


@pytest.mark.parametrize(("words", "reason"), REFUSED)
def test_what_fails_is_said_on_one_line_without_the_password(
    words: list[str], reason: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, said, errors = run(*words)
    assert (code, said) == (1, "")
    assert errors.startswith("Error: ")
    assert reason in errors
    assert errors.count("\n") == 1
    assert "hunter2" not in errors


def test_machines_are_told_in_json(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path / 'store.db'}"
    told: dict[str, object] = {}
    for words in (["upgrade"], ["current"], ["check"], ["history"]):
        code, said, errors = run(*words, "--json", dsn=dsn)
        assert (code, errors, said.count("\n")) == (0, "", 1)
        told[words[0]] = json.loads(said)
    assert told["upgrade"] == {"revision": "head"}
    assert told["current"] == {"revision": HEAD, "head": HEAD, "up_to_date": True}
    assert told["check"] == {"differences": []}
    assert run("upgrade", "--json", "--sql", dsn=dsn)[0] == 2


@pytest.mark.parametrize("words", [["current"], ["check"], ["downgrade", "base"]], ids=" ".join)
def test_a_file_that_is_not_there_is_not_made(
    words: list[str], run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, said, errors = run(*words, "--dsn", f"sqlite:///{tmp_path / 'mistyped.db'}")
    assert (code, said) == (1, "")
    assert "does not exist" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_tables_is_at_no_revision(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    dsn = f"sqlite:///{tmp_path / 'store.db'}"
    assert run("upgrade", "--dsn", dsn)[0] == run("downgrade", "base", "--dsn", dsn)[0] == 0
    assert run("current", "--dsn", dsn)[:2] == (0, "none\n")


WRONG_WORDS = [["upgrad"], ["upgrade", "--nonsense"], ["downgrade"], ["demo", "--nodes", "0"], ["current", "--dsn"]]


@pytest.mark.parametrize("words", WRONG_WORDS, ids=" ".join)
def test_words_that_are_not_understood_end_with_2(words: list[str], run: Callable[..., tuple[int, str, str]]) -> None:
    code, said, errors = run(*words)
    assert (code, said) == (2, "")
    assert "Error: " in errors


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete(shell: str) -> None:
    environment = {**os.environ, "_MCP_PERSIST_SA_COMPLETE": f"{shell}_source"}
    script = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert "_MCP_PERSIST_SA_COMPLETE" in script.stdout
    words = {"COMP_WORDS": "mcp-persist-sa upg", "COMP_CWORD": "1"}
    environment = {**os.environ, **words, "_MCP_PERSIST_SA_COMPLETE": "bash_complete"}
    completed = subprocess.run([COMMAND], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert completed.stdout.split() == ["plain,upgrade"]
