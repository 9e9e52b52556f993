"""Every operation of the facade, as calls to be disturbed, and as a round that shows that all of them work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcp_persist_sa import NewEvent, SessionNotFound, Store, StreamNotFound, VersionConflict
from tests.contract.support import messages, rest

Operation = Callable[[Store, str], Awaitable[Any]]


async def _first_session(store: Store, _tag: str) -> object:
    return [session async for session in store.sessions.all(limit=1)]


async def _streams(store: Store, tag: str) -> object:
    return [info async for info in store.streams(tag)]


async def _first_of_tail(store: Store, _tag: str) -> object:
    tail = store.tail("session", stream_id="1")
    try:
        return await anext(tail)
    finally:
        await tail.aclose()


def _plus_one(value: Any) -> Any:
    return value + 1


APPENDS: dict[str, Operation] = {
    "append": lambda store, tag: store.append("session", "1", tag),
    "append_many": lambda store, tag: store.append_many(
        "session", "2", [NewEvent(f"{tag} {n}", n == 2) for n in range(3)]
    ),
    "claim": lambda store, tag: store.claim("session", tag).append(tag, final=True).durable(),
}
READS: dict[str, Operation] = {
    "read": lambda store, _: store.read("session", stream_id="1"),
    "recent": lambda store, _: store.recent("session", "1"),
    "tail": _first_of_tail,
    "stream": lambda store, _: store.stream("session", "1"),
    "streams": _streams,
    "sessions.get": lambda store, _: store.sessions.get("session"),
    "sessions.list": lambda store, _: store.sessions.list(),
    "sessions.all": _first_session,
    "sessions.count": lambda store, _: store.sessions.count(),
    "sessions.delete_owner of none": lambda store, tag: store.sessions.delete_owner(tag),
    "state.get": lambda store, _: store.state("session").get("key"),
    "state.keys": lambda store, _: store.state("session").keys(),
}
WRITES: dict[str, Operation] = {
    "sessions.create": lambda store, tag: store.sessions.create(tag),
    "sessions.create fresh": lambda store, _: store.sessions.create(),
    "sessions.update": lambda store, tag: store.sessions.update("session", metadata={"tag": tag}),
    "sessions.touch": lambda store, _: store.sessions.touch("session"),
    "sessions.close": lambda store, tag: store.sessions.close(tag),
    "sessions.delete": lambda store, tag: store.sessions.delete(tag),
    "state.set": lambda store, tag: store.state("session").set("key", tag),
    "state.compare_and_set": lambda store, tag: store.state(tag).compare_and_set("key", tag, version=0),
    "state.update": lambda store, _: store.state("session").update("number", _plus_one, 0),
    "state.delete": lambda store, tag: store.state("session").delete(tag),
    "state.clear": lambda store, tag: store.state(tag).clear(),
    "delete_events": lambda store, tag: store.delete_events(tag),
    "purge": lambda store, _: store.purge(),
}
OPERATIONS = APPENDS | READS | WRITES
"""Each takes a tag of its own, and `prepare` before the first."""


async def prepare(store: Store) -> None:
    """Record the session and the stream that the operations use."""
    await store.sessions.create("session")
    await store.append("session", "1", "begin")


async def use_everything(store: Store, name: str) -> None:
    """Every operation of the facade once, in a session of its own, with its result."""
    session = await store.sessions.create(name, owner=name, metadata={"name": name})
    assert session.metadata == {"name": name}
    await _use_sessions(store, name)
    await _use_events(store, name)
    await _use_state(store, name)
    await store.purge()
    assert await store.sessions.close(name)
    assert (await store.sessions.delete_owner(name)).sessions == 1
    with pytest.raises(SessionNotFound):
        await store.sessions.get(name)


async def _use_sessions(store: Store, name: str) -> None:
    fresh = await store.sessions.create(owner=name)
    assert (await store.sessions.get(fresh.session_id)).owner == name
    assert (await store.sessions.update(name, metadata={"n": 1})).metadata == {"n": 1}
    await store.sessions.touch(name)
    listed = {session.session_id async for session in store.sessions.all(owner=name, limit=1)}
    assert listed == {name, fresh.session_id}
    assert await store.sessions.count(owner=name) == 2
    assert (await store.sessions.delete(fresh.session_id)).sessions == 1


async def _use_events(store: Store, name: str) -> None:
    ids = [await store.append(name, "shared", "1")]
    ids += await store.append_many(name, "shared", [NewEvent("2"), NewEvent("3", True)])
    writer = store.claim(name, "claimed")
    receipts = [writer.append("1"), writer.append("2", final=True)]
    assert [await receipt.durable() for receipt in receipts] == [receipt.event_id for receipt in receipts]
    assert messages(await store.read(name, after=ids[0])) == ["2", "3"]
    assert messages(await store.read_before(name, ids[2], limit=1)) == ["2"]
    assert messages(await store.recent(name, "claimed", limit=1)) == ["2"]
    assert [item.message for item in await rest(store.tail(name, stream_id="shared"))] == ["1", "2", "3"]
    assert (await store.stream(name, "shared")).finished
    assert {info.stream_id async for info in store.streams(name)} == {"shared", "claimed"}
    assert await store.delete_before(name, ids[2]) == 2
    assert (await store.delete_events(name)).streams == 2
    with pytest.raises(StreamNotFound):
        await store.read(name, stream_id="shared")


async def _use_state(store: Store, name: str) -> None:
    state = store.state(name)
    assert await state.set("a", 1) == 1
    assert await state.compare_and_set("a", 2, version=1) == 2
    with pytest.raises(VersionConflict):
        await state.compare_and_set("a", 3, version=1)
    assert await state.update("a", _plus_one) == 3
    assert await state.keys() == ["a"]
    assert await state.delete("a")
    assert await state.get("a") is None
    await state.set("b", None)
    assert await state.clear() == 1
