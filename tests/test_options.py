"""Options: their types, units, defaults, checks and suggestions."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from datetime import timedelta
from typing import Any

import pytest

from mcp_persist_sa import InvalidOption, Options, PersistError, Store, open_store
from tests.servers import ChildProcess

NAMES = [option.name for option in fields(Options)]
SECONDS = [name for name in NAMES if name.endswith(("_ttl", "timeout", "_interval"))]
WHOLE = [name for name in NAMES if name.startswith(("max_", "page_", "pool_"))]
UNLIMITED = ("_ttl", "_sessions", "_per_stream", "_per_session", "purge_interval")
MAY_BE_NONE = [name for name in NAMES if name.endswith(UNLIMITED)]


def test_the_defaults_are_those_of_the_sdk_and_a_day() -> None:
    options = Options.of({})
    assert (options.span("session_ttl"), options.span("event_ttl")) == (timedelta(minutes=30), timedelta(hours=24))
    assert (options.namespace, options.background, options.synchronous) == ("", True, "FULL")
    assert [getattr(options, name) for name in MAY_BE_NONE if name.startswith("max_")] == [None] * 5


def test_every_option_is_described() -> None:
    described = re.findall(r"^ {8}(\w+): ", Options.__doc__ or "", re.MULTILINE)
    assert described == NAMES


def test_a_misspelt_option_is_refused_with_a_suggestion() -> None:
    for wrong, right in (("namespce", "namespace"), ("event_tll", "event_ttl"), ("max_session", "max_sessions")):
        with pytest.raises(InvalidOption, match=f"'{wrong}'.*Did you mean '{right}'"):
            open_store("sqlite://", **{wrong: 1})


def test_an_option_like_no_other_is_refused_with_a_list() -> None:
    with pytest.raises(InvalidOption, match=r"'xyzzy'.*Known: namespace, .*connect_args"):
        open_store("sqlite://", xyzzy=1)


def test_a_number_of_seconds_is_a_number_above_0() -> None:
    spans = ("session_ttl", "event_ttl", "state_ttl")
    assert tuple(SECONDS) == (*spans, "purge_interval", "poll_interval", "timeout", "connect_timeout")
    refused: list[Any] = [0, -1, -0.5, True, "1", float("nan"), float("inf"), 1e300, 1j, timedelta(0), timedelta.max]
    for name in SECONDS:
        for value in refused:
            with pytest.raises(InvalidOption, match=f"option {name} is a number of seconds"):
                Options.of({name: value})
        assert getattr(Options.of({name: 0.25}), name) == 0.25


def test_a_time_may_be_a_timedelta() -> None:
    options = Options.of({"session_ttl": timedelta(minutes=5), "event_ttl": 90, "state_ttl": None})
    assert [options.span(name) for name in ("session_ttl", "event_ttl", "state_ttl")] == [
        timedelta(minutes=5),
        timedelta(seconds=90),
        None,
    ]


def test_only_a_time_to_live_may_be_a_timedelta() -> None:
    for name in SECONDS:
        if not name.endswith("_ttl"):
            with pytest.raises(InvalidOption, match=f"option {name} is a number of seconds"):
                Options.of({name: timedelta(seconds=1)})


def test_an_amount_is_a_whole_number_above_0() -> None:
    assert len(WHOLE) == 12
    refused: list[Any] = [0, -1, 1.0, True, "1", 2**53 + 1, timedelta(1)]
    for name in WHOLE:
        for value in refused:
            with pytest.raises(InvalidOption, match=f"option {name} is a whole number"):
                Options.of({name: value})
        assert getattr(Options.of({name: 7}), name) == 7


def test_only_what_may_be_unlimited_may_be_none() -> None:
    assert len(MAY_BE_NONE) == 9
    for name in (*SECONDS, *WHOLE):
        if name in MAY_BE_NONE:
            assert getattr(Options.of({name: None}), name) is None
        else:
            with pytest.raises(InvalidOption, match=name):
                Options.of({name: None})


def test_every_other_option_is_checked_too() -> None:
    refused: list[tuple[str, Any]] = [
        *((name, value) for name in ("migrate", "background", "pgbouncer") for value in (1, "yes")),
        ("background", None),
        *(("synchronous", value) for value in ("full", "OFF", None, 1)),
        *((name, value) for name in ("password", "clock") for value in ("hunter2", 1)),
        *((name, value) for name in ("namespace", "schema") for value in ("\0", "\ud800", "x" * 256, 1)),
        ("namespace", None),
        *(("connect_args", value) for value in (None, "ssl", [1])),
    ]
    for name, value in refused:
        with pytest.raises(InvalidOption, match=name) as caught:
            Options.of({name: value})
        assert "hunter2" not in str(caught.value)


def test_options_are_refused_before_anything_is_opened() -> None:
    for call in (lambda: open_store("sqlite://", pool_size=0), lambda: Store("sqlite://?pool_size=0")):
        with pytest.raises(InvalidOption) as caught:
            call()
        assert isinstance(caught.value, PersistError)
        assert isinstance(caught.value, ValueError)


def test_options_do_not_change() -> None:
    options = open_store("sqlite://").options
    with pytest.raises(FrozenInstanceError):
        options.namespace = "x"  # type: ignore[misc]


async def test_retention_without_end_is_warned_about_once_in_a_process() -> None:
    program = """
import asyncio, logging, sys
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s %(message)s")
from mcp_persist_sa import open_store
async def main():
    for options in ({}, {"event_ttl": None}, {"event_ttl": None, "session_ttl": None}, {"event_ttl": None}):
        async with open_store("sqlite://", **options):
            print("opened")
asyncio.run(main())
print("end")
"""
    async with ChildProcess("-c", program) as child:
        lines = [await child.read_line()]
        while lines[-1] != "end":
            lines.append(await child.read_line())
    assert [line.split(" is None")[0] for line in lines] == [
        "opened",
        "WARNING mcp_persist_sa.options The option event_ttl",
        "opened",
        "WARNING mcp_persist_sa.options The option session_ttl",
        "opened",
        "opened",
        "end",
    ]
