"""The commands that move, as processes."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from mcp_persist_sa.dsn import ENVIRONMENT
from tests.contract.support import fill, take
from tests.moving.conftest import COMMAND, PATIENCE, Pair, Run
from tests.moving.support import contents, fill_all_kinds, key_of, keys
from tests.servers.processes import ChildProcess


async def test_a_copy_by_command(pair: Pair, run: Run) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    await fill_all_kinds(source)
    await fill(source, "other", "1", 10)
    done = await asyncio.to_thread(run, "copy", pair.source.dsn, pair.target.dsn, "--batch-size", "3")
    assert (done.code, done.errors) == (0, "")
    assert done.out == "Copied 27 events of 2 sessions and handles, 2 compared and equal.\n"
    assert await contents(target, "session") == await contents(source, "session")
    again = await asyncio.to_thread(run, "copy", pair.source.dsn, pair.target.dsn, "--json")
    assert json.loads(again.out) == {
        **{"seen": 2, "total": 2, "sessions": 1, "state": 4, "events": 0},
        **{"verified": 2, "removed": 0, "failed": 0, "failures": {}},
    }


async def test_an_export_and_an_import_by_command(pair: Pair, run: Run, tmp_path: Path) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    await fill_all_kinds(source)
    done = await asyncio.to_thread(run, "export", "all.jsonl.gz", **{ENVIRONMENT: pair.source.dsn})
    assert (done.code, done.errors) == (0, "")
    done = await asyncio.to_thread(run, "import", "all.jsonl.gz", "--dsn", pair.target.dsn, "--json")
    assert (done.code, json.loads(done.out)["events"]) == (0, 17)
    assert await contents(target, "session") == await contents(source, "session")


async def test_a_copy_that_follows_ends_at_the_signal(pair: Pair, run: Run, tmp_path: Path) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    await fill(source, "session", "1", 5)
    words = (COMMAND, "copy", pair.source.dsn, pair.target.dsn, "--follow", "--json")
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*words, stdout=pipe, stderr=pipe, cwd=tmp_path)

    copied = target.tail("session", "1")
    assert len(await take(copied, 5)) == 5
    await fill(source, "session", "1", 5)
    assert len(await take(copied, 5)) == 5
    await copied.aclose()
    await fill(source, "session", "1", 5)
    child.send_signal(signal.SIGINT)
    out, errors = await asyncio.wait_for(child.communicate(), PATIENCE)
    assert (child.returncode, errors) == (0, b"")
    assert json.loads(out)["verified"] == 1
    assert await contents(target, "session") == await contents(source, "session")


ENDLESS = """
import asyncio

from mcp_persist_sa.cli import main, moving

async def endless(*_, until, **__):
    print("follows", flush=True)
    await until.wait()
    print("ends", flush=True)
    await asyncio.Event().wait()

moving.copy_stores = endless
main(["copy", "sqlite:///a.db", "sqlite:///b.db", "--follow"])
"""


@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -signal.SIGTERM)])
async def test_a_second_signal_ends_a_copy_that_follows_at_once(second: signal.Signals, code: int) -> None:
    async with ChildProcess("-c", ENDLESS, timeout=PATIENCE) as child:
        await child.wait_for_line("follows")
        child.send_signal(signal.SIGINT)
        await child.wait_for_line("ends")
        child.send_signal(second)
        assert await child.wait() == code, child.errors()


async def test_what_fails_is_said_by_session(pair: Pair, run: Run) -> None:
    source, target = await pair.source.open(), await pair.target.open()
    for name in ("bad", "good"):
        await source.sessions.create(name)
    await target.sessions.create("bad")
    done = await asyncio.to_thread(run, "copy", pair.source.dsn, pair.target.dsn)
    assert done.code == 1
    assert re.fullmatch(r"bad: .*another session.*\nError: 1 of 2 sessions could not be moved.\n", done.errors)
    assert key_of(source, "good") in await keys(target)


WRONG: list[tuple[int, list[str], str]] = [
    (1, ["copy", "sqlite:///none.db", "sqlite:///new.db"], "does not exist"),
    (1, ["copy", "postgresql://u:hunter2@127.0.0.1:1/db", "sqlite:///new.db"], "can be reached"),
    (1, ["copy", "nothing", "sqlite:///new.db"], "A DSN begins with"),
    (1, ["copy", "sqlite:///empty.db", "sqlite:///new.db", "--session", "x"], "no such session"),
    (1, ["copy", "sqlite:///empty.db?namespace=a", "sqlite:///new.db?namespace=b"], "namespaces differ"),
    (1, ["export", "x.jsonl", "--dsn", "sqlite:///none.db"], "does not exist"),
    (1, ["import", "none.jsonl", "--dsn", "sqlite:///new.db"], "No such file"),
    (1, ["import", "empty.db", "--dsn", "sqlite:///new.db"], "no export"),
    (2, ["copy", "sqlite:///empty.db"], "Missing argument"),
    (2, ["copy", "a", "b", "--batch-size", "0"], "--batch-size"),
    (2, ["export"], "Missing argument"),
]


@pytest.mark.parametrize(
    ("code", "words", "reason"), WRONG, ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None
)
def test_wrong_words_are_said(code: int, words: list[str], reason: str, run: Run) -> None:
    assert run("upgrade", "--dsn", "sqlite:///empty.db").code == 0
    done: Any = run(*words)
    assert (done.code, done.out) == (code, "")
    assert reason in done.errors
    assert "hunter2" not in done.errors
    assert "Traceback" not in done.errors
