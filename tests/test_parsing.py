"""The parser of the benchmarks gives what the SDK's gives, or it would compare nothing."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from mcp_types import jsonrpc_message_adapter

from benchmarks.parsing import parsed

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_objects = st.dictionaries(st.text(max_size=5), _values, max_size=3)
_errors = st.fixed_dictionaries({"code": st.integers(), "message": st.text(max_size=5)}, optional={"data": _values})
_messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0") | _values},
    optional={
        "id": st.integers() | st.text(max_size=5) | _values,
        "method": st.text(max_size=5) | _values,
        "params": _objects | _values,
        "result": _objects | _values,
        "error": _errors | _values,
        "more": _values,
    },
)


def _outcome(parse: Any, text: str) -> Any:
    try:
        found = parse(text)
    except ValueError:
        return "refused"
    return type(found), repr(found)


@given(_messages | _values)
@example({"jsonrpc": "2.0", "id": None, "method": "x"})
@example({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {"code": 1, "message": "x"}})
@example({"jsonrpc": "2.0", "id": 1, "method": "x", "result": {}})
@example({"jsonrpc": "2.0", "id": 1, "method": "x", "error": {"code": 1, "message": "x"}})
@example({"jsonrpc": "2.0", "id": 10**30, "method": "x", "params": {"large": 10**40, "small": 1e400}})
def test_a_text_is_the_same_message_by_either_parser(value: Any) -> None:
    text = json.dumps(value)
    assert _outcome(parsed, text) == _outcome(jsonrpc_message_adapter.validate_json, text)
