"""The messages that are stored: each side is given the same objects, and writes them as text itself."""

from __future__ import annotations

from random import Random

from mcp_types import JSONRPCMessage, JSONRPCNotification

from mcp_persist_sa.integrations.sdk import wire_text

SMALL, LARGE = 344, 8192
"""Bytes on the wire: a progress notification with some text, and a tool result of two pages."""

_SYLLABLES = (
    "an",
    "be",
    "con",
    "di",
    "er",
    "for",
    "ge",
    "ha",
    "in",
    "ka",
    "lo",
    "nor",
    "per",
    "qua",
    "sta",
    "te",
    "ver",
)


def message(size: int, seed: int = 1) -> JSONRPCMessage:
    """A notification of so many bytes, whose text compresses about as prose does."""
    rng = Random(seed)

    def with_text(text: str) -> JSONRPCMessage:
        data = {"step": seed, "text": text}
        params = {"level": "info", "logger": "benchmark", "data": data}
        return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params=params)

    room = size - len(wire_text(with_text("")))
    words: list[str] = []
    while sum(map(len, words)) + len(words) <= room:
        words.append("".join(rng.choices(_SYLLABLES, k=rng.randint(1, 4))))
    made = with_text(" ".join(words)[:room])
    assert len(wire_text(made)) == size
    return made


def messages(size: int, count: int = 32) -> list[JSONRPCMessage]:
    """Different ones of one size; the seed has two digits, so that it is."""
    return [message(size, 10 + seed) for seed in range(count)]
