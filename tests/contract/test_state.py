"""State: JSON values by key, written without a lost write."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from mcp_persist_sa import InvalidInput, StateEntry, Store, TooLarge, VersionConflict
from tests.contract.support import Clock
from tests.databases import Database

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    2**63,
    -(10**40),
    0.1,
    -1.5e308,
    5e-324,
    1e22,
    "",
    "nul \0, surrogate \ud800 and \udfff, quotes '\"\\, äß漢字🙂, \u2028 \ufeff",
    [],
    {},
    [None, [[], {}], {"a": [1, 2.5, "x", None, {"": []}]}],
    {"": 1, "z": 1, "a": 2, "\0": 3, "ä": 4, "__proto__": {}, "a.b": 1, "'": "$"},
    "x" * 200_000,
    list(range(20_000)),
]


async def test_json_of_any_shape_comes_back_as_it_was(store: Store) -> None:
    state = store.state("session")
    for number, value in enumerate(VALUES, 1):
        assert await state.set("key", value) == number
        found = await state.get("key", "default")
        assert (found, type(found)) == (value, type(value))
        assert json.dumps(found) == json.dumps(value)


async def test_a_missing_value_is_the_default(store: Store) -> None:
    state = store.state("session")
    assert await state.get("none") is None
    assert await state.get("none", 7) == 7
    assert await state.entry("none") is None
    await state.set("null", None)
    assert await state.get("null", 7) is None
    assert await state.entry("null") == StateEntry(None, 1)


async def test_versions_grow_with_every_write(store: Store) -> None:
    state = store.state("session")
    assert [await state.set("key", n) for n in range(3)] == [1, 2, 3]
    assert await state.entry("key") == StateEntry(2, 3)
    assert await state.set("other", 1) == 1


async def test_a_version_is_not_given_again_after_a_deletion(store: Store) -> None:
    state = store.state("session")
    await state.set("key", "a")
    stale = await state.entry("key")
    assert stale is not None
    assert await state.delete("key")
    assert await state.set("key", "b") > stale.version + 1
    with pytest.raises(VersionConflict):
        await state.compare_and_set("key", "c", version=stale.version)
    await state.clear()
    await state.set("key", "d")
    with pytest.raises(VersionConflict):
        await state.compare_and_set("key", "e", version=stale.version)


async def test_values_are_deleted_and_cleared(store: Store) -> None:
    state, other = store.state("session"), store.state("other")
    for key in ("a", "b", "c"):
        await state.set(key, key)
    await other.set("a", 1)
    assert await state.delete("b")
    assert not await state.delete("b")
    assert not await state.delete("never")
    assert await state.get("b") is None
    assert await state.keys() == ["a", "c"]
    assert await state.clear() == 2
    assert await state.clear() == 0
    assert await state.keys() == []
    assert await other.get("a") == 1


async def test_keys_are_any_text_in_the_order_of_code_points(store: Store) -> None:
    keys = [
        "",
        " ",
        "a",
        "A",
        "ä",
        "z",
        "~",
        "漢",
        "🙂",
        "'\"\\;--",
        "%",
        "_",
        "a.b",
        "x" * 255,
        "\n",
        "\uffff",
        "é",
        "e\u0301",
    ]
    state = store.state("session")
    for number, key in enumerate(keys):
        await state.set(key, number)
    assert await state.keys() == sorted(keys)
    for number, key in enumerate(keys):
        assert await state.get(key) == number


async def test_a_key_that_no_database_can_hold_is_refused(store: Store) -> None:
    state = store.state("session")
    refused: list[Any] = ["\0", "a\0b", "x" * 256, "\ud800", None, 1]
    for key in refused:
        with pytest.raises(InvalidInput, match="key"):
            await state.get(key)
        with pytest.raises(InvalidInput, match="key"):
            await state.set(key, 1)
        with pytest.raises(InvalidInput, match="key"):
            await state.delete(key)
        with pytest.raises(InvalidInput, match="key"):
            await state.compare_and_set(key, 1, version=0)


async def test_state_needs_no_recorded_session(store: Store) -> None:
    await store.state("handle").set("key", 1)
    assert await store.sessions.count() == 0
    assert await store.state("handle").get("key") == 1


# Compare and set


async def test_a_value_is_set_only_at_its_version(store: Store) -> None:
    state = store.state("session")
    assert await state.compare_and_set("key", "a", version=0) == 1
    assert await state.compare_and_set("key", "b", version=1) == 2
    for version in (0, 1, 3):
        with pytest.raises(VersionConflict, match="key"):
            await state.compare_and_set("key", "c", version=version)
    assert await state.entry("key") == StateEntry("b", 2)
    with pytest.raises(InvalidInput, match="version"):
        await state.compare_and_set("key", "c", version=-1)


async def test_version_0_stands_for_no_value(store: Store) -> None:
    state = store.state("session")
    with pytest.raises(VersionConflict):
        await state.compare_and_set("key", "a", version=1)
    await state.set("key", None)
    with pytest.raises(VersionConflict):
        await state.compare_and_set("key", "a", version=0)
    await state.delete("key")
    assert await state.compare_and_set("key", "a", version=0) > 1


async def test_of_those_that_set_at_once_one_succeeds(shared_database: Database) -> None:
    nodes = [await shared_database.open() for _ in range(2)]
    for version in (0, 1):
        calls = [nodes[n % 2].state("session").compare_and_set("key", n, version=version) for n in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(result, VersionConflict) for result in results].count(True) == 19
        winner = next(n for n, result in enumerate(results) if not isinstance(result, BaseException))
        assert await nodes[0].state("session").entry("key") == StateEntry(winner, version + 1)


# Atomic update


async def test_concurrent_updates_of_two_nodes_lose_no_write(shared_database: Database) -> None:
    nodes = [await shared_database.open() for _ in range(2)]
    calls = [nodes[n % 2].state("session").update("count", lambda value: value + 1, 0) for n in range(50)]
    assert sorted(await asyncio.gather(*calls)) == list(range(1, 51))
    assert await nodes[0].state("session").entry("count") == StateEntry(50, 50)


async def test_an_update_is_given_the_value_or_the_default(store: Store) -> None:
    state = store.state("session")
    seen: list[Any] = []

    def change(value: Any) -> Any:
        seen.append(value)
        return [*(value or []), len(seen)]

    assert await state.update("key", change) == [1]
    assert await state.update("key", change, default="unused") == [1, 2]
    await state.delete("key")
    assert await state.update("key", change, default=[]) == [3]
    assert seen == [None, [1], []]


async def test_an_update_that_fails_changes_nothing(store: Store) -> None:
    state = store.state("session")
    await state.set("key", 1)
    with pytest.raises(ZeroDivisionError):
        await state.update("key", lambda value: value / 0)
    with pytest.raises(InvalidInput):
        await state.update("key", lambda value: {value})
    assert await state.entry("key") == StateEntry(1, 1)


# Typed


class Address(BaseModel):
    street: str
    tags: tuple[str, ...] = ()


class Person(BaseModel):
    name: str
    born: datetime
    address: Address | None = None


class Renamed(BaseModel):
    protocol_version: str = Field(alias="protocolVersion")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    born: datetime
    tags: tuple[str, ...]


BORN = datetime(2000, 2, 29, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "model",
    [
        Person(name="Alice", born=BORN, address=Address(street="Main", tags=("a", "b"))),
        Renamed(protocolVersion="2025-11-25"),
        Strict(born=BORN, tags=("a",)),
    ],
    ids=lambda model: type(model).__name__,
)
async def test_a_model_comes_back_as_a_model(store: Store, model: BaseModel) -> None:
    state = store.state("session")
    await state.set("key", model)
    assert await state.get("key", as_type=type(model)) == model
    assert await state.get("none", as_type=type(model)) is None
    await state.compare_and_set("key", model, version=1)
    assert await state.get("key", as_type=type(model)) == model


async def test_any_type_that_pydantic_knows_can_be_asked_for(store: Store) -> None:
    state = store.state("session")
    await state.set("key", {"a": [1, 2]})
    assert await state.get("key", as_type=dict[str, tuple[int, ...]]) == {"a": (1, 2)}
    assert await state.get("none", {"b": (3,)}, as_type=dict[str, tuple[int, ...]]) == {"b": (3,)}


async def test_a_value_of_another_type_is_said(store: Store) -> None:
    state = store.state("session")
    await state.set("key", {"name": 1, "secret": "hunter2"})
    with pytest.raises(InvalidInput, match=r"'key'.*Person") as caught:
        await state.get("key", as_type=Person)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(InvalidInput, match=r"'key'.*Person \| None"):
        await state.get("key", as_type=Person | None)  # type: ignore[arg-type]


# What is refused


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def _circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


NOT_JSON: list[Any] = [
    float("nan"),
    float("inf"),
    [1, float("-inf")],
    (1, 2),
    {"a": [(1,)]},
    {1: "a"},
    {"a": {None: 1}},
    {True: 1},
    b"bytes",
    {"a": bytearray(b"x")},
    {1, 2},
    object(),
    datetime(2030, 1, 1),
    1j,
    _deep(100_000),
    _circle(),
    10**5000,
]


def _instead(value: Any, _: Any) -> Any:
    return value


async def test_what_is_not_json_is_refused_and_changes_nothing(store: Store) -> None:
    state = store.state("session")
    await state.set("key", "kept")
    for value in NOT_JSON:
        with pytest.raises(InvalidInput, match="not JSON"):
            await state.set("key", value)
        with pytest.raises(InvalidInput, match="not JSON"):
            await state.set("new", value)
        with pytest.raises(InvalidInput, match="not JSON"):
            await state.compare_and_set("key", value, version=1)
        with pytest.raises(InvalidInput, match="not JSON"):
            await state.update("key", partial(_instead, value))
    assert await state.entry("key") == StateEntry("kept", 1)
    assert await state.keys() == ["key"]


async def test_a_value_over_the_limit_is_refused_and_changes_nothing(database: Database) -> None:
    store = await database.open(max_state_bytes=100)
    state = store.state("session")
    await state.set("key", "x" * 98)
    for value in ("x" * 99, ["x"] * 100, "ä" * 50):
        with pytest.raises(TooLarge, match="100"):
            await state.set("key", value)
    assert await state.entry("key") == StateEntry("x" * 98, 1)


# Time


async def test_the_state_of_a_handle_is_kept_for_its_time_from_its_last_write(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, state_ttl=60)
    state = store.state("handle")
    await state.set("a", 1)
    await state.set("b", 2)
    clock.advance(seconds=50)
    await state.set("a", 3)
    clock.advance(seconds=10)
    assert (await state.keys(), await state.get("b"), await state.get("a")) == (["a"], None, 3)
    assert await state.compare_and_set("b", 4, version=0) == 2
    assert not await store.state("other").delete("a")
    clock.advance(seconds=60)
    assert (await state.keys(), await state.delete("a"), await state.clear()) == ([], False, 0)


async def test_the_state_of_a_session_lives_as_long_as_the_session(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, state_ttl=60, session_ttl=1000)
    await store.sessions.create("session")
    await store.state("session").set("key", 1)
    clock.advance(seconds=999)
    assert await store.state("session").get("key") == 1
    assert (await store.purge()).state == 0
    clock.advance(seconds=1)
    assert await store.state("session").get("key") is None
    assert tuple(await store.purge()) == (1, 0, 0, 1)


async def test_the_state_of_a_handle_is_kept_for_ever_if_wanted(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, state_ttl=None)
    await store.state("handle").set("key", 1)
    clock.advance(days=10_000)
    assert (await store.purge()).state == 0
    assert await store.state("handle").get("key") == 1


async def test_what_a_handle_had_left_is_not_of_the_session_that_takes_its_id(database: Database, clock: Clock) -> None:
    store = await database.open(clock=clock, state_ttl=60, session_ttl=3600)
    state = store.state("handle")
    await state.set("old", 1)
    clock.advance(seconds=59)
    await state.set("fresh", 2)
    clock.advance(seconds=1)
    await store.sessions.create("handle")
    assert await state.get("old") is None
    clock.advance(seconds=60)
    assert await state.keys() == ["fresh"]
    assert await state.compare_and_set("old", 3, version=0)
    assert (await store.purge()).state == 0
    assert await state.get("old") == 3
