"""A copy equals its source, however often it was interrupted; what fails is said and stops nothing else."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from mcp_persist_sa import InvalidOption, NewEvent, SessionNotFound, Store, StoreUnavailable
from mcp_persist_sa.operations import Moved, copy
from mcp_persist_sa.records import EventRecord
from tests.contract.beside import alter_event, lose_events, spoil_session
from tests.contract.support import fill, messages, to_the_end
from tests.moving.conftest import Pair
from tests.moving.support import contents, fill_all_kinds, key_of, keys
from tests.servers.processes import ChildProcess

PATIENCE = 120
EVENTS = 3000
KILLS = 3


async def _open(pair: Pair, **options: Any) -> tuple[Store, Store]:
    return await pair.source.open(**options), await pair.target.open(**options)


async def _assert_equal(source: Store, target: Store, *session_ids: str) -> None:
    assert await keys(target) == await keys(source)
    for session_id in session_ids:
        assert await contents(target, session_id) == await contents(source, session_id)


async def test_a_copy_equals_its_source(pair: Pair) -> None:
    source, target = await _open(pair)
    await fill_all_kinds(source)
    await source.append("unrecorded", "1", "x")
    await source.state("handle").set("a", 1)
    ids = await fill(source, "long", "1", 25)
    moved = await copy(source, target, batch_size=10)
    assert (moved.stage, moved.failures, moved.verified, moved.seen, moved.total) == ("done", {}, 4, 4, 4)
    await _assert_equal(source, target, "session", "unrecorded", "handle", "long")
    assert messages(await target.read("long", after=ids[20])) == ["22", "23", "24", "25"]
    assert (await target.append("long", "1", "26")).startswith(ids[0].split(".")[0] + ".26.")


async def test_what_was_copied_is_not_written_again(pair: Pair) -> None:
    source, target = await _open(pair)
    await fill(source, "session", "1", 30)
    assert (await copy(source, target)).events == 30
    await fill(source, "session", "1", 5)
    assert (await copy(source, target)).events == 5
    assert (await copy(source, target)).events == 0
    await _assert_equal(source, target, "session")


async def test_a_stream_that_has_ended_makes_room_for_the_next_of_its_name(pair: Pair) -> None:
    source, target = await _open(pair)
    for n in range(8):
        await source.append("session", str(n), "open")
    await copy(source, target)
    for n in range(8):
        await source.append("session", str(n), "end", final=True)
        await source.append("session", str(n), "open again")
    assert (await copy(source, target, batch_size=1)).failures == {}
    await _assert_equal(source, target, "session")


async def test_one_session_is_copied_alone(pair: Pair) -> None:
    source, target = await _open(pair)
    await fill(source, "one", "1", 3)
    await fill(source, "other", "1", 3)
    assert (await copy(source, target, "one")).events == 3
    assert await keys(target) == {key_of(source, "one")}
    with pytest.raises(SessionNotFound):
        await copy(source, target, "none")


async def test_a_session_that_fails_stops_no_other(pair: Pair) -> None:
    source, target = await _open(pair)
    for name in ("a", "b", "c"):
        await source.sessions.create(name)
        await fill(source, name, "1", 3)
    await target.sessions.create("b")
    moved = await copy(source, target, batch_size=2)
    assert (moved.failed, moved.verified) == (1, 2)
    assert "another session" in moved.failures["b"]
    for name in ("a", "c"):
        assert await contents(target, name) == await contents(source, name)
    assert (await copy(source, target, mirror=True)).failures == {}
    await _assert_equal(source, target, "a", "b", "c")


async def test_a_mirror_removes_what_the_source_has_no_more(pair: Pair) -> None:
    source, target = await _open(pair)
    await fill_all_kinds(source)
    await fill(source, "gone", "1", 3)
    await copy(source, target)
    await source.sessions.delete("gone")
    await source.delete_events("session")
    moved = await copy(source, target)
    assert [*moved.failures] == ["session"]
    moved = await copy(source, target, mirror=True)
    assert (moved.failures, moved.removed) == ({}, 1)
    await _assert_equal(source, target, "session")


async def test_what_was_lost_on_the_way_is_found_and_written(pair: Pair) -> None:
    source, target = await _open(pair)
    await fill(source, "session", "1", 30)
    await copy(source, target)
    await lose_events(pair.target, 5, 6, 7, 8, 9)
    assert (await copy(source, target)).failures == {}
    await _assert_equal(source, target, "session")


async def test_what_is_not_the_same_is_said(pair: Pair) -> None:
    source, target = await _open(pair)
    await fill(source, "session", "1", 30)
    await fill(source, "other", "1", 30)
    await copy(source, target)
    await alter_event(pair.target, 7, "7", "changed")
    moved = await copy(source, target)
    assert (moved.failed, moved.verified) == (2, 0)


async def test_a_record_that_cannot_be_read_stops_no_other(pair: Pair) -> None:
    source, target = await _open(pair)
    for name in ("a", "b", "c"):
        await source.sessions.create(name, client_info={"name": name})
    await spoil_session(pair.source, "b")
    for mirror in (False, True):
        moved = await copy(source, target, mirror=mirror)
        assert (moved.failed, moved.verified, moved.removed) == (1, 2, 0)
        assert "cannot be read" in moved.failures[key_of(source, "b")]
    moved = await copy(source, target, "b")
    assert (moved.failed, moved.verified) == (1, 0)


async def test_a_mirror_keeps_what_cannot_be_read(pair: Pair) -> None:
    source, target = await _open(pair)
    for name in ("a", "b"):
        await source.sessions.create(name, client_info={"name": name})
    await copy(source, target)
    await spoil_session(pair.source, "b")
    moved = await copy(source, target, mirror=True)
    assert (moved.failed, moved.removed) == (1, 0)
    assert len(await contents(target, "b")) == 1


async def test_every_session_that_fails_is_counted_once() -> None:
    async with Store("sqlite://") as source, Store("sqlite://") as target:
        for n in range(150):
            await source.sessions.create(f"session-{n}")
            await target.sessions.create(f"session-{n}")
        moved = await copy(source, target)
        assert (moved.seen, moved.verified, moved.failed, len(moved.failures)) == (150, 0, 150, 100)
        moved = await copy(source, target, mirror=True)
        assert (moved.seen, moved.verified, moved.failed, len(moved.failures)) == (150, 150, 0, 0)


async def test_what_cannot_begin_is_said(pair: Pair) -> None:
    source, target = await _open(pair)
    with pytest.raises(InvalidOption, match="namespace"):
        await copy(source, await pair.target.open(namespace="other"))
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await copy("sqlite:///nowhere.db", target)


async def test_a_store_is_left_as_it_was(pair: Pair) -> None:
    source, target = await _open(pair)
    await target.close()
    await copy(source, target)
    assert (source.is_open, target.is_open) == (True, False)


class Interrupted(Exception):
    """Somebody has pulled the plug."""


async def test_a_copy_that_is_interrupted_goes_on(pair: Pair, rng: Random) -> None:
    source, target = await _open(pair)
    await fill_all_kinds(source)
    for stream in ("1", "2"):
        await fill(source, "long", stream, 40)

    def interrupt(moved: Moved) -> None:
        if rng.random() < 0.2:
            raise Interrupted

    written = 0
    for _ in range(1000):
        try:
            moved = await copy(source, target, batch_size=3, on_progress=interrupt)
        except Interrupted:
            written += 1
            continue
        assert moved.failures == {}
        break
    await _assert_equal(source, target, "session", "long")
    assert written > 0


async def test_a_copy_that_is_killed_goes_on(pair: Pair, rng: Random) -> None:
    source = await pair.source.open()
    for n in range(EVENTS // 100):
        await source.append_many(f"session{n % 7}", str(n % 11), [NewEvent(f"{n} {i}") for i in range(100)])
    arguments = json.dumps({"source": pair.source.dsn, "target": pair.target.dsn, "batch_size": 50})
    for _ in range(KILLS):
        async with ChildProcess("-m", "tests.moving.child_copy", arguments, timeout=PATIENCE) as child:
            for _ in range(rng.randrange(1, 8)):
                await child.read_line()
            assert await child.kill() == -9, child.errors()
    async with ChildProcess("-m", "tests.moving.child_copy", arguments, timeout=PATIENCE) as child:
        moved = json.loads((await child.wait_for_line("= ")).removeprefix("= "))
        assert await child.wait() == 0
    assert moved["failures"] == {}
    assert 0 < moved["events"] < EVENTS
    target = await pair.target.open()
    names = [f"session{n}" for n in range(7)]
    await _assert_equal(source, target, *names)
    counts = [record for name in names for record in await contents(target, name) if isinstance(record, EventRecord)]
    assert len(counts) == EVENTS
    assert len(await to_the_end(target, "session0", stream_id="0")) == 100
