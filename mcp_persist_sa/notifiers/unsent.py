"""Hints that wait to be sent to other processes, and how they are written."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import islice

from mcp_persist_sa.hints import Hint

_MOST = 100
"""Hints in a message, of at most 60 bytes each: Postgres takes 7,999."""


class Unsent:
    """What came while one message was sent is the next; of a stream only the newest is told."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], int] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def add(self, hints: Collection[Hint]) -> None:
        """Queue hints."""
        newest = self._newest
        for key, stream, sequence in hints:
            if sequence > newest.get((key, stream), -1):
                newest[key, stream] = sequence
        if newest:
            self._some.set()
            self._none.clear()

    async def take(self) -> str:
        """Wait for hints, and take as many as a message holds. That the ones before were sent is said by this."""
        if not self._newest:
            self._none.set()
        await self._some.wait()
        some = dict(islice(self._newest.items(), _MOST))
        for key in some:
            del self._newest[key]
        if not self._newest:
            self._some.clear()
        return "\n".join(f"{key} {stream} {sequence}" for (key, stream), sequence in some.items())

    async def sent(self) -> None:
        """Wait until all were sent."""
        await self._none.wait()


def hints_in(text: str) -> set[Hint]:
    """The hints of a message; what is none is left out, because anybody may send to a channel."""
    fields = (line.split(" ") for line in text.split("\n"))
    return {Hint(key, stream, int(number)) for key, stream, number in filter(_is_hint, fields)}


def _is_hint(fields: list[str]) -> bool:
    return len(fields) == 3 and fields[2].isascii() and fields[2].isdecimal() and len(fields[2]) < 20
