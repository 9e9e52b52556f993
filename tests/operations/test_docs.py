"""The commands of docs/operating.md run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from mcp_persist_sa import open_store
from mcp_persist_sa.cli import main
from mcp_persist_sa.dsn import ENVIRONMENT
from tests.contract.support import fill

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text()


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SESSION": "session"}
    environment.pop(ENVIRONMENT, None)
    return subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


async def test_the_commands_run(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'server.db'}") as store:
        await store.sessions.create("session")
        await fill(store, "session", "1", 3)
    [script] = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    done = run(script, tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "The session is closed." in done.stdout
    assert done.stdout.count('"message": ') == 3


def test_the_completion_is_one_that_bash_takes(tmp_path: Path) -> None:
    line = re.search(r'`(eval "\$\(.*\)")`', PAGE)
    assert line is not None
    done = run(f"{line[1]}; complete -p mcp-persist-sa", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mcp-persist-sa" in done.stdout


def test_each_command_is_named() -> None:
    table = PAGE.split("| command | |")[1].split("\n\n")[0]
    named = {name.split()[0] for name in re.findall(r"`([a-z][\w :-]*)`", table)}
    assert set(main.commands) <= named
