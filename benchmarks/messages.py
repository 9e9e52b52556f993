"""The messages that are stored: each side is given the same objects, and writes them as text itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from mcp_types import JSONRPCMessage, JSONRPCNotification, JSONRPCResponse

from mcp_persist_sa.integrations.sdk import wire_text

SMALL, LARGE = 344, 8192
"""Bytes on the wire: a log message of a server, and a tool's result of some text and a table."""

_SYLLABLES = ("an", "be", "con", "di", "er", "for", "ge", "ha", "in", "lo", "nor", "per", "qua", "sta", "te", "ver")


def message(size: int, seed: int = 10) -> JSONRPCMessage:
    """One of so many bytes, whose text compresses about as prose does."""
    rng = Random(seed)
    make = _notification if size < LARGE else _result(rng, size // 5)
    room = size - len(wire_text(make(seed, "")))
    made = make(seed, _words(rng, room))
    assert len(wire_text(made)) == size
    return made


def messages(size: int, count: int = 32) -> list[JSONRPCMessage]:
    """Different ones of one size."""
    return [message(size, 10 + seed) for seed in range(count)]


def _words(rng: Random, length: int) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) <= length:
        words.append("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))))
    return " ".join(words)[:length]


def _notification(seed: int, text: str) -> JSONRPCMessage:
    params = {"level": "info", "logger": "benchmark", "data": {"step": seed, "text": text}}
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params=params)


def _result(rng: Random, size: int) -> Callable[[int, str], JSONRPCMessage]:
    """With a table of about so many bytes."""
    rows: list[dict[str, Any]] = []
    while len(json.dumps(rows)) < size:
        row = {"id": rng.randint(1000, 9999), "name": _words(rng, 12), "price": rng.randint(1, 999) / 4}
        rows.append({**row, "inStock": rng.random() < 0.5, "tags": [_words(rng, 4), _words(rng, 6)]})

    def make(seed: int, text: str) -> JSONRPCMessage:
        content = [{"type": "text", "text": text}]
        return JSONRPCResponse(
            jsonrpc="2.0", id=seed, result={"content": content, "structuredContent": {"rows": rows}, "isError": False}
        )

    return make
