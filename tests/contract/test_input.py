"""What is refused at the door: nothing of it is queued or written."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_persist_sa import InvalidInput, NewEvent, PersistError, Store, TooLarge, UnknownEvent
from tests.contract.support import messages
from tests.databases import Database


async def test_a_message_that_no_database_can_hold_is_refused(store: Store) -> None:
    refused: list[Any] = ["nul \0", "\ud800", "a\udfffb", b"bytes", 1, {"a": 1}, ["x"]]
    for message in refused:
        with pytest.raises(InvalidInput, match="message"):
            await store.append("session", "1", message)
        with pytest.raises(InvalidInput, match="message"):
            await store.append_many("session", "1", [NewEvent("good"), NewEvent(message)])
        with pytest.raises(InvalidInput, match="message"):
            store.claim("session", "2").append(message)
    assert [info async for info in store.streams("session")] == []


async def test_a_message_over_the_limit_is_refused_and_says_both_sizes(database: Database) -> None:
    store = await database.open(max_message_bytes=100)
    with pytest.raises(TooLarge, match=r"101.*max_message_bytes is 100"):
        await store.append("session", "1", "x" * 101)
    with pytest.raises(TooLarge, match="102"):
        await store.append("session", "1", "ä" * 51)
    await store.append("session", "1", "ä" * 50)
    assert messages(await store.read("session", stream_id="1")) == ["ä" * 50]


async def test_the_default_limit_takes_what_the_sdk_may_send(store: Store) -> None:
    with pytest.raises(TooLarge):
        await store.append("session", "1", "x" * (16 * 1024 * 1024 + 1))


async def test_no_events_are_no_append(store: Store) -> None:
    with pytest.raises(InvalidInput, match="no event"):
        await store.append_many("session", "1", [])


async def test_nothing_follows_a_final_event_in_one_call(store: Store) -> None:
    with pytest.raises(InvalidInput, match="final"):
        await store.append_many("session", "1", [NewEvent("a", True), NewEvent("b")])
    assert [info async for info in store.streams("session")] == []


async def test_errors_of_input_are_persist_errors_and_value_errors(store: Store) -> None:
    with pytest.raises(PersistError) as caught:
        await store.append("session", "1", "\0")
    assert isinstance(caught.value, ValueError)


async def test_an_error_of_input_does_not_repeat_the_message(store: Store) -> None:
    with pytest.raises(InvalidInput) as caught:
        await store.append("session", "1", "hunter2\0")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidInput) as caught:
        await store.state("session").set("key", {"hunter2": b"hunter2"})
    assert "hunter2" not in str(caught.value)


async def test_a_number_that_no_database_can_hold_is_refused(store: Store) -> None:
    event_id = await store.append("session", "1", "x")
    for number in (0, -1, 2**31, 2**70, 1.0, True, "1", None):
        limit: Any = number
        with pytest.raises(InvalidInput, match="limit is a whole number from 1"):
            await store.recent("session", "1", limit=limit)
        with pytest.raises(InvalidInput, match="limit is a whole number from 1"):
            await store.read_before("session", event_id, limit=limit)
        with pytest.raises(InvalidInput, match="limit is a whole number from 1"):
            await store.sessions.list(limit=limit)
    for number in (-1, 2**63 - 1, 2**70, 1.0, False, "1", None):
        version: Any = number
        with pytest.raises(InvalidInput, match="version is a whole number from 0"):
            await store.state("session").compare_and_set("key", 1, version=version)


async def test_what_is_no_event_or_no_event_id_is_refused(store: Store) -> None:
    await store.append("session", "1", "x")
    for event in ("x", ("x", False), None):
        events: Any = [NewEvent("good"), event]
        with pytest.raises(InvalidInput, match="NewEvent"):
            await store.append_many("session", "2", events)
    for event_id in (5, b"x", ["x"]):
        after: Any = event_id
        with pytest.raises(UnknownEvent):
            await store.read("session", after=after)
    assert [info.stream_id async for info in store.streams("session")] == ["1"]
