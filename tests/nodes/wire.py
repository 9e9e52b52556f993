"""As much of HTTP/1.1 as the client and the balancer of the tests need, so that they see every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

PATIENCE = 60
"""Seconds after which a wait is given up, so that what hangs fails."""

Headers = Sequence[tuple[str, str]]


class CutOff(Exception):
    """A connection ended before the message that it carried did."""


@dataclass(frozen=True)
class Head:
    """The first line of a message, and its headers."""

    line: str
    headers: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """A header's value, whatever the case of its name."""
        return next((value for given, value in self.headers if given.lower() == name), None)

    def having(self, name: str, value: str) -> Head:
        """The same with one header replaced."""
        others = [header for header in self.headers if header[0].lower() != name]
        return Head(self.line, (*others, (name, value)))

    def encoded(self) -> bytes:
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    @property
    def status(self) -> int:
        return int(self.line.split(" ", 2)[1])

    @property
    def method(self) -> str:
        return self.line.split(" ", 1)[0]

    @property
    def is_stream(self) -> bool:
        """Whether a response carries SSE."""
        return (self.get("content-type") or "").startswith("text/event-stream")


async def read_head(reader: asyncio.StreamReader) -> Head:
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise CutOff("before the headers were complete") from error
    line, *headers = text.rstrip("\r\n").split("\r\n")
    pairs = (header.split(":", 1) for header in headers)
    return Head(line, tuple((name.strip(), value.strip()) for name, value in pairs))


async def read_body(reader: asyncio.StreamReader, head: Head) -> AsyncGenerator[bytes, None]:
    """The parts of a body as they arrive, without their framing; raises CutOff unless the body is complete."""
    try:
        if (head.get("transfer-encoding") or "").lower() == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        elif length := int(head.get("content-length") or 0):
            yield await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise CutOff("before the body was complete") from error


def chunk(data: bytes) -> bytes:
    """One part of a body in chunked framing; the empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)
