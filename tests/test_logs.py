"""What is logged is a sentence for people, and its values have names for machines."""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcp_persist_sa
from mcp_persist_sa import LoggingMetrics

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


def test_a_record_has_the_values_and_the_same_words_each_time(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_persist_sa.metrics")
    LoggingMetrics().replay(2, 0.5)
    [record] = caplog.records
    assert record.msg == "replayed events=%(events)d seconds=%(seconds).6f"
    assert record.args == {"events": 2, "seconds": 0.5}
    assert record.getMessage() == "replayed events=2 seconds=0.500000"
