"""What is logged is a sentence for people, and its values have names for machines."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcp_persist_sa
from mcp_persist_sa import open_store

METHODS = {f"logger.{name}" for name in ("debug", "info", "warning", "error", "exception", "log")}


def logged() -> Iterator[tuple[str, ast.Call]]:
    """Each call of a logger in the package, and where it is."""
    for path in sorted(Path(mcp_persist_sa.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in METHODS:
                yield f"{path.name}:{node.lineno}", node


def test_every_value_that_is_logged_has_a_name() -> None:
    calls = list(logged())
    assert len(calls) > 40
    for place, call in calls:
        text, *values = call.args[1:] if ast.unparse(call.func) == "logger.log" else call.args
        assert isinstance(text, ast.Constant), place
        assert isinstance(text.value, str), place
        names = set(re.findall(r"%\((\w+)\)", text.value))
        assert text.value.count("%") == len(re.findall(r"%\(\w+\)", text.value)), place
        assert len(values) == bool(names), place
        for value in values:
            if isinstance(value, ast.Dict):
                assert {key.value for key in value.keys if isinstance(key, ast.Constant)} == names, place
            else:
                assert ast.unparse(value).endswith("._asdict()"), place


async def test_a_record_has_the_values_and_the_same_words_each_time(caplog: pytest.LogCaptureFixture) -> None:
    async with open_store("sqlite://", event_ttl=None):
        pass
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.msg == "The option %(option)s is None: %(what)s are kept until somebody deletes them."
    assert record.args == {"option": "event_ttl", "what": "events"}
    assert record.getMessage() == "The option event_ttl is None: events are kept until somebody deletes them."
