"""What the machine is fed with: inputs of all kinds, those that must be refused included."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle

from mcp_persist_sa import NewEvent
from mcp_persist_sa.models import JSONValue
from tests.stateful.roles import Reader, Seen, Writer

T = TypeVar("T")

IDS: Bundle[Seen] = Bundle("ids")
"""Every event id that was ever seen, of whatever session and namespace."""

WRITERS: Bundle[Writer] = Bundle("writers")
READERS: Bundle[Reader] = Bundle("readers")
FRESH: Bundle[str] = Bundle("fresh")
"""Session ids that the store has made."""

MAX_MESSAGE = 1_050_000
MAX_STATE = 4_000
_MEGABYTE = 1_000_000


def mostly(common: st.SearchStrategy[T], rare: st.SearchStrategy[T], times: int = 4) -> st.SearchStrategy[T]:
    """One of two, the first so many times as often; `one_of` does not count what it is given twice."""
    return st.sampled_from([True] * times + [False]).flatmap(lambda often: common if often else rare)


# Text. No alphabet has both halves of a surrogate pair, because JSON would make one character of them.

_ODD = '\x01\x7f"\\/aé\u2028\uffff\U0001d11e'
_storable = st.text(_ODD, max_size=5)
_odd_text = st.one_of(_storable, st.text("\0\ud800a", max_size=3), st.text("\0\udfffa", max_size=3))

# JSON

_numbers = st.one_of(
    st.sampled_from([0, -1, 2**31, 2**53 + 1, 2**63, -(2**64), 10**40, 1.0, -0.0, 0.1, 1e308, 5e-324]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _odd_text)
_containers = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_odd_text, inner, max_size=3), max_leaves=6
)
_plain: list[JSONValue] = [1, "x", None, {}, [], {"a": [1, {"b": None}]}, {"z": 1, "a": 2}, "", False]
JSON_VALUES = mostly(st.sampled_from(_plain), _containers, 3)
_infinity = float("inf")
NO_JSON: st.SearchStrategy[Any] = st.sampled_from(
    [b"x", {1: 2}, (1, 2), {"a": object()}, [_infinity], -_infinity, {"a": {None: 1}}, {1}, "\ud800\udc00"]
)

# Events


@dataclass(frozen=True)
class Message:
    """A message that stays readable in a report, however long it is."""

    text: str | None
    filling: int = 0

    def event(self, final: bool = False) -> NewEvent:
        text = self.text if not self.filling else json.dumps("x" * self.filling)
        return NewEvent(text, final)


_written = st.one_of(
    JSON_VALUES.map(json.dumps), _storable.map(lambda text: json.dumps(text, ensure_ascii=False)), _storable
)
_short = [Message('{"n":1}'), Message(None), Message('{"n":2}'), Message('"\\u0000\\ud800"'), Message(None, 40)]
MESSAGES = mostly(st.sampled_from(_short), _written.map(Message), 3)
_big = Message(None, _MEGABYTE)
BAD_MESSAGES = st.sampled_from([Message("\0"), Message('"\ud800"'), Message(None, MAX_MESSAGE), Message("a\udfff")])
SOME = st.lists(MESSAGES, min_size=1, max_size=4)
MANY = mostly(SOME, st.just([Message("1"), _big]), 9)

# Names

_rare = st.one_of(st.sampled_from(["_GET_stream", "", "\0", "\ud800", "\\u0000", 'a"\\', "x" * 1024]), _odd_text)
STREAMS = mostly(st.just("1"), _rare)
BAD_STREAMS = st.sampled_from(["x" * 1025, "\0" * 171, "\U0001d11e" * 86])
SESSIONS = st.sampled_from(["s", "s", "s", "t", '!"~' * 85])
BAD_SESSIONS = st.sampled_from(["", " ", "a b", "é", "x" * 256, "s\n", "\0", "\ud800"])
NAMES = st.sampled_from(["", "alice", "bob", "é\U0001d11e", "n" * 255])
BAD_NAMES = st.sampled_from(["\0", "a\0", "\ud800", "x" * 256])
KEYS = mostly(st.just("k"), st.one_of(st.sampled_from(["", "A", "é", "\uffff", "\U0001d11e", "n" * 255]), _storable), 3)

# Event ids

_SOME_KEY, _SOME_NONCE = "A" * 16, "_" * 8
MALFORMED = st.sampled_from(
    [
        *("", "1", "x.y.z", "..", "\0", "\ud800", "é" * 27, f"{_SOME_KEY}.1.{_SOME_NONCE}"),
        *(f"{_SOME_KEY}.0.{_SOME_NONCE}", f"{_SOME_KEY}.01.{_SOME_NONCE}", f"{_SOME_KEY}.{10**30}.{_SOME_NONCE}"),
        *(f"{_SOME_KEY}.-1.{_SOME_NONCE}", f"{_SOME_KEY}.\u0661.{_SOME_NONCE}", f"{_SOME_KEY}.1.", f"{_SOME_KEY}.0."),
    ]
)


def _renumbered(change: Callable[[int], int | str]) -> Callable[[str], str]:
    def forge(event_id: str) -> str:
        key, sequence, nonce = event_id.split(".")
        return f"{key}.{change(int(sequence))}.{nonce}"

    return forge


AS_IT_IS = "as it is"
FORGERIES: dict[str, Callable[[str], str]] = {
    AS_IT_IS: lambda event_id: event_id,
    "next": _renumbered(lambda n: n + 1),
    "before": _renumbered(lambda n: n - 1),
    "zero": _renumbered(lambda n: 0),
    "huge": _renumbered(lambda n: 10**18 - 1),
    "overflow": _renumbered(lambda n: 2**63),
    "zeros": _renumbered(lambda n: f"0{n}"),
    "nonce": lambda event_id: event_id[:-8] + _SOME_NONCE,
    "no nonce": lambda event_id: event_id[:-8],
    "key": lambda event_id: _SOME_KEY + event_id[16:],
    "newline": lambda event_id: event_id + "\n",
    "space": lambda event_id: " " + event_id,
    "swapped": lambda event_id: event_id.swapcase(),
}
FORGERY = mostly(st.just(AS_IT_IS), st.sampled_from([*FORGERIES]), 2)

# Times

STEPS = st.sampled_from([1.37, 7.37, 31.37, 61.37, 111.37, 301.37, 4001.37])
"""Seconds. No sum of up to a hundred of them is a whole number: nothing expires at the very moment of a look."""

LIMITS: list[dict[str, int]] = [
    {},
    {},
    {},
    {"max_events_per_stream": 3},
    {"max_bytes_per_stream": 60},
    {"max_events_per_session": 4},
    {"max_bytes_per_session": 100},
    {"max_events_per_stream": 2, "max_events_per_session": 5, "max_bytes_per_session": 90},
]


def _together(options: dict[str, Any], limits: dict[str, int]) -> dict[str, Any]:
    return {**options, **limits}


OPTIONS = st.builds(
    _together,
    st.fixed_dictionaries(
        {
            "page_events": st.sampled_from([2, 1, 3, 500]),
            "page_bytes": st.sampled_from([1_000_000, 1, 50]),
            "session_ttl": st.sampled_from([100, None]),
            "event_ttl": st.sampled_from([150, None]),
            "state_ttl": st.sampled_from([300, None]),
            "max_sessions": st.sampled_from([None, None, 2]),
        }
    ),
    st.sampled_from(LIMITS),
)

SELDOM = st.sampled_from([False, False, False, False, True])
