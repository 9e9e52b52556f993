"""What is refused at the door: nothing of it is queued or written."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_persist_sa import InvalidInput, NewEvent, PersistError, Store, TooLarge
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
