"""The shell examples of docs/moving.md run, one after another, as they stand."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mcp_persist_sa import open_store
from mcp_persist_sa.operations import copy
from tests.moving.support import fill_all_kinds
from tests.moving.test_mcp_persist import ONE, Old

PAGE = Path(__file__).parents[2] / "docs" / "moving.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)


def _run(block: str, folder: Path, new_dsn: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "NEW_DSN": new_dsn}
    return subprocess.run(
        ["sh", "-e", "-c", block],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_the_shell_examples_run(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'server.db'}") as store:
        await fill_all_kinds(store)
    old = Old("sqlite", f"sqlite:///{tmp_path / 'mcp_persist.db'}")
    await old.create()
    await old.add(1, f"{ONE}:7", '{"jsonrpc":"2.0","id":7,"result":{}}')
    new_dsn = new_postgres()
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        done = await asyncio.to_thread(_run, block, tmp_path, new_dsn)
        assert (done.returncode, done.stderr) == (0, ""), block
    # The copy and the file hold the same.
    moved = await copy(new_dsn, f"sqlite:///{tmp_path / 'restored.db'}")
    assert (moved.failures, moved.events, moved.verified) == ({}, 0, 1)
