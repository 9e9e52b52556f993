"""What a contestant can do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_types import JSONRPCMessage

Receive = Callable[[Any], None]
"""Is called with each event that is replayed."""

Store = Callable[[str, JSONRPCMessage], Awaitable[str]]
"""Stores a message in a stream, and gives its event id once it is durable."""

Replay = Callable[[str, str, Receive], Awaitable[None]]
"""Reads what follows an event of a stream to its end."""


@dataclass(frozen=True)
class Contestant:
    """An open store.

    Attributes:
        name: Of the package.
        fill: Makes a stream of messages, and gives the id of its first event.
        ways_to_store: By the names under which they are shown.
        ways_to_replay: Likewise.
        ways_to_purge: Each removes what has expired.
        store_together: Stores messages, each with its stream, in one transaction: what no store can beat.
        slow: Whether rounds have to be shorter, lest they take all the time.
    """

    name: str
    fill: Callable[[str, Sequence[JSONRPCMessage]], Awaitable[str]]
    ways_to_store: dict[str, Store] = field(default_factory=dict[str, Store])
    ways_to_replay: dict[str, Replay] = field(default_factory=dict[str, Replay])
    ways_to_purge: dict[str, Callable[[], Awaitable[Any]]] = field(default_factory=dict[str, Any])
    store_together: Callable[[list[tuple[str, JSONRPCMessage]]], Awaitable[None]] | None = None
    slow: bool = False


async def fill_by(
    store: Store, stream: str, messages: Sequence[JSONRPCMessage], *, at_once: int = 200, first: str = ""
) -> str:
    """Fill a stream by storing one message after the other, many at once behind the first."""
    first = first or await store(stream, messages[0])
    for begin in range(1, len(messages), at_once):
        await asyncio.gather(*(store(stream, message) for message in messages[begin : begin + at_once]))
    return first
