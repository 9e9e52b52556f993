"""SSE frames and the responses that carry them, as they were on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.nodes.wire import PATIENCE, Head, read_body


@dataclass(frozen=True)
class Frame:
    """One SSE event. `raw` is the whole of it; two frames are equal when id and data are, byte for byte."""

    id: str | None
    data: bytes
    event: str | None = None
    retry: int | None = None
    raw: bytes = b""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and (self.id, self.data) == (other.id, other.data)

    def __hash__(self) -> int:
        return hash((self.id, self.data))

    @property
    def is_priming(self) -> bool:
        return self.data == b""

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.data)

    @property
    def is_response(self) -> bool:
        return not self.is_priming and "method" not in self.message

    @classmethod
    def parse(cls, raw: bytes) -> Frame | None:
        """None for a comment, as the SDKs send them to keep connections alive."""
        lines = [line.partition(b":") for line in raw.splitlines() if line and not line.startswith(b":")]
        fields = [(name.decode(), value.removeprefix(b" ")) for name, _, value in lines]
        if not fields:
            return None
        found = dict(fields)
        data = b"\n".join(value for name, value in fields if name == "data")
        identity = found["id"].decode() if "id" in found else None
        event = found["event"].decode() if "event" in found else None
        return cls(identity, data, event, int(found["retry"]) if "retry" in found else None, raw)


class Response:
    """An answer that may still be arriving; `async for frame in response` reads the frames of one that is a stream.

    Attributes:
        frames: Those that have been read so far.
    """

    def __init__(self, head: Head, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        self.frames: list[Frame] = []
        self._writer = writer
        self._body = read_body(reader, head)
        self._unread = b""
        self._iterator = self._parse()

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def last_id(self) -> str:
        """What to resume with."""
        return [frame.id for frame in self.frames if frame.id][-1]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What the frames carry, without priming events."""
        return [frame.message for frame in self.frames if not frame.is_priming]

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        return await asyncio.wait_for(anext(self._iterator), PATIENCE)

    async def take(self, count: int) -> list[Frame]:
        """The next frames."""
        return [await anext(self) for _ in range(count)]

    async def until_message(self) -> Frame:
        """The next frame that carries a message."""
        frame = await anext(self)
        return await self.until_message() if frame.is_priming else frame

    async def rest(self) -> list[Frame]:
        """Every further frame; raises CutOff unless the response comes to a proper end."""
        return [frame async for frame in self]

    async def body(self) -> bytes:
        """The body of an answer that is no stream."""

        async def work() -> bytes:
            return b"".join([part async for part in self._body])

        try:
            return await asyncio.wait_for(work(), PATIENCE)
        finally:
            self._writer.close()

    async def json(self) -> Any:
        return json.loads(await self.body())

    def cut(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    async def _parse(self) -> AsyncGenerator[Frame, None]:
        assert self.head.is_stream, (self.head, await self.body())
        try:
            async with aclosing(self._body) as body:
                async for part in body:
                    self._unread += part
                    for frame in self._complete():
                        self.frames.append(frame)
                        yield frame
        finally:
            self._writer.close()

    def _complete(self) -> list[Frame]:
        *raw, self._unread = self._unread.split(b"\r\n\r\n")
        return [frame for each in raw if (frame := Frame.parse(each + b"\r\n\r\n"))]


def messages_of(frames: Iterable[Frame]) -> list[Frame]:
    """The frames that carry a message; a stream may be primed anew each time that it is opened."""
    return [frame for frame in frames if not frame.is_priming]


def told(frames: Iterable[Frame]) -> list[str]:
    """What the notifications among the frames say: the message of a progress, the data of a log."""
    params = [frame.message.get("params", {}) for frame in messages_of(frames)]
    return [each.get("message") or each["data"] for each in params if each]


class Answer(NamedTuple):
    """What a client can tell answers apart by."""

    status: int
    headers: tuple[str, ...]
    body: bytes


async def answer(response: Response) -> Answer:
    """The whole of an answer, or what there is of a stream before its first frame."""
    names = {name.lower() for name, _ in response.head.headers} - {"date", "server"}
    if response.head.is_stream:
        response.cut()
    return Answer(response.status, tuple(sorted(names)), b"" if response.head.is_stream else await response.body())
