"""Ids: how they are made, written and checked."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_persist_sa.errors import InvalidInput, UnknownEvent
from mcp_persist_sa.identity import (
    EventId,
    check_name,
    check_session_id,
    escape_stream_id,
    new_nonce,
    new_session_id,
    new_stream_key,
    session_key,
    unescape_stream_id,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def test_an_event_id_is_taken_apart_and_put_together() -> None:
    for sequence in (1, 9, 10, 999_999_999_999_999_999):
        event_id = EventId(new_stream_key(), sequence, new_nonce())
        assert EventId.parse(str(event_id)) == event_id


@given(ANY_TEXT)
def test_no_other_text_is_an_event_id(text: str) -> None:
    with pytest.raises(UnknownEvent):
        EventId.parse(text)


def test_what_only_looks_like_an_event_id_is_none() -> None:
    key, nonce = "a" * 16, "b" * 8
    for text in (
        f"{key}.0.{nonce}",
        f"{key}.01.{nonce}",
        f"{key}.1.{nonce}\n",
        f"{key}.\u0661.{nonce}",
        f"{key}.1.",
        "1",
    ):
        with pytest.raises(UnknownEvent):
            EventId.parse(text)


def test_every_refusal_of_an_event_id_reads_the_same() -> None:
    said: set[str] = set()
    for text in ("", "x", f"{'a' * 16}.0.{'b' * 8}"):
        with pytest.raises(UnknownEvent) as caught:
            EventId.parse(text)
        said.add(str(caught.value))
    assert len(said) == 1


def test_keys_and_nonces_are_random_and_fit_an_event_id() -> None:
    keys = [new_stream_key() for _ in range(1000)]
    nonces = [new_nonce() for _ in range(1000)]
    assert len(set(keys)) == len(set(nonces)) == 1000
    for key, nonce in zip(keys, nonces, strict=True):
        assert EventId.parse(f"{key}.1.{nonce}") == (key, 1, nonce)


def test_a_session_s_key_depends_on_the_namespace_and_the_id_alone() -> None:
    assert session_key("a", "b") == session_key("a", "b")
    different = [session_key(*pair) for pair in (("", "ab"), ("a", "b"), ("ab", ""), ("", "b"), ("b", "a"))]
    assert len(set(different)) == len(different)
    assert {len(key) for key in different} == {20}


def test_session_ids_are_uuids_in_the_order_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1_900_000_000_000_000_000 + n * 1_000_000 for n in range(100)])
    monkeypatch.setattr(time, "time_ns", lambda: next(moments))
    ids = [new_session_id() for _ in range(100)]
    assert ids == sorted(ids)
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant) for text in ids} == {(7, uuid.RFC_4122)}
    assert uuid.UUID(ids[0]).int >> 80 == 1_900_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert len({new_session_id() for _ in range(1000)}) == 1000


@given(ANY_TEXT)
@example("\0")
@example("\ud800")
@example("\\u0000")
@example('"\\')
def test_a_stream_id_is_written_in_printable_ascii_and_read_back(text: str) -> None:
    try:
        escaped = escape_stream_id(text)
    except InvalidInput:
        assert len(text) > 80
        return
    assert escaped.isascii()
    assert all(" " <= character <= "~" for character in escaped)
    assert unescape_stream_id(escaped) == text


def test_what_is_printable_is_written_as_it_is() -> None:
    for text in ("1", "_GET_stream", "a b", "'quoted'", '"', "~"):
        assert escape_stream_id(text) == text


def test_a_stream_id_has_a_longest() -> None:
    assert escape_stream_id("x" * 1024) == "x" * 1024
    for text in ("x" * 1025, "\0" * 200):
        with pytest.raises(InvalidInput, match="1024"):
            escape_stream_id(text)


def test_session_ids_are_those_of_the_specification() -> None:
    for good in ("!", "~", "x" * 255):
        assert check_session_id(good) == good
    refused: list[Any] = ["", " ", "x" * 256, "a b", "\x7f", "ä", "a\n", None, b"x"]
    for bad in refused:
        with pytest.raises(InvalidInput, match="255 visible ASCII"):
            check_session_id(bad)


def test_names_are_text_that_every_database_can_hold() -> None:
    for good in ("", "ä🙂\n", "x" * 255):
        assert check_name("owner", good) == good
    refused: list[Any] = ["\0", "x" * 256, "\ud800", None, 1]
    for bad in refused:
        with pytest.raises(InvalidInput, match="owner"):
            check_name("owner", bad)
