"""The shell examples of docs/moving.md run, one after another, as they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mcp_persist_sa import open_store
from mcp_persist_sa.operations import copy
from tests.moving.support import fill_all_kinds
from tests.moving.test_mcp_persist import ONE, Old
from tests.pages import DOCS, blocks, shell


async def test_the_shell_examples_run(tmp_path: Path, new_postgres: Callable[[], str]) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'server.db'}") as store:
        await fill_all_kinds(store)
    old = Old("sqlite", f"sqlite:///{tmp_path / 'mcp_persist.db'}")
    await old.create()
    await old.add(1, f"{ONE}:7", '{"jsonrpc":"2.0","id":7,"result":{}}')
    new_dsn = new_postgres()
    scripts = blocks(DOCS / "moving.md", "sh")
    assert len(scripts) == 3
    for script in scripts:
        done = await asyncio.to_thread(shell, script, tmp_path, NEW_DSN=new_dsn)
        assert (done.returncode, done.stderr) == (0, ""), script
    # The copy and the file hold the same.
    moved = await copy(new_dsn, f"sqlite:///{tmp_path / 'restored.db'}")
    assert (moved.failures, moved.events, moved.verified) == ({}, 0, 1)
