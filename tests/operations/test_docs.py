"""The commands of docs/operating.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from mcp_persist_sa import open_store
from mcp_persist_sa.cli import main
from tests.contract.support import fill
from tests.pages import DOCS, blocks, shell

PAGE = DOCS / "operating.md"


async def test_the_commands_run(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'server.db'}") as store:
        await store.sessions.create("session")
        await fill(store, "session", "1", 3)
    [script] = blocks(PAGE, "sh")
    done = shell(script, tmp_path, SESSION="session")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "The session is closed." in done.stdout
    assert done.stdout.count('"message": ') == 3


def test_the_completion_is_one_that_bash_takes(tmp_path: Path) -> None:
    line = re.search(r'`(eval "\$\(.*\)")`', PAGE.read_text())
    assert line is not None
    done = shell(f"{line[1]}; complete -p mcp-persist-sa", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mcp-persist-sa" in done.stdout


def test_each_command_is_named() -> None:
    table = PAGE.read_text().split("| command | |")[1].split("\n\n")[0]
    named = {name.split()[0] for name in re.findall(r"`([a-z][\w :-]*)`", table)}
    assert set(main.commands) <= named
