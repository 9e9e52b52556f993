"""Clients whose connections break again and again, and the count of what they received."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from random import Random

from tests.nodes.client import Client
from tests.nodes.cluster import Cluster
from tests.nodes.frames import Frame, Response
from tests.nodes.wire import PATIENCE, CutOff

Send = Callable[[str], Awaitable[Response]]

PRIMING_OCTETS = 200
"""More than the first frame of a stream has: who has not received it has no event id to come back with."""

_MOST_OCTETS = 4000
_MOST_FRAMES = 10
_MOST_AWAY = 0.03


@dataclass
class Tally:
    """What went wrong, over all streams."""

    streams: int = 0
    events: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    foreign: int = 0
    replayed_otherwise: int = 0

    def add(self, expected: Sequence[Hashable], received: Sequence[Hashable]) -> None:
        """Compare what a stream was to give with what its client received."""
        places = {event: place for place, event in enumerate(expected)}
        own = Counter(event for event in received if event in places)
        order = [places[event] for event in dict.fromkeys(received) if event in places]
        self.streams += 1
        self.events += len(expected)
        self.lost += len(expected) - len(own)
        self.duplicated += own.total() - len(own)
        self.out_of_order += sum(first > second for first, second in pairwise(order))
        self.foreign += len(received) - own.total()

    @property
    def faults(self) -> int:
        return self.lost + self.duplicated + self.out_of_order + self.foreign + self.replayed_otherwise

    def __str__(self) -> str:
        return (
            f"{self.events} events in {self.streams} streams; {self.lost} lost, {self.duplicated} duplicated, "
            f"{self.out_of_order} out of order, {self.foreign} foreign, {self.replayed_otherwise} replayed otherwise"
        )


class Hunt:
    """What the clients of one hunt have in common.

    Attributes:
        cluster: The nodes.
        rng: Decides where connections break, and which node is next.
        wanted: After how many disconnects no more calls are begun.
        disconnects: How many there were.
    """

    def __init__(self, cluster: Cluster, rng: Random, wanted: int) -> None:
        self.cluster = cluster
        self.rng = rng
        self.wanted = wanted
        self.disconnects = 0
        self.tally = Tally()
        self._tags: Iterator[int] = count()

    @property
    def goes_on(self) -> bool:
        return self.disconnects < self.wanted

    def tag(self) -> str:
        """A header by which the balancer knows a request; the request goes to a random node."""
        self.cluster.balancer.next_to(self.rng.randrange(len(self.cluster.nodes)))
        return str(next(self._tags))


class Line:
    """One stream as its client receives it, over as many connections as it takes.

    Attributes:
        frames: With messages, in the order in which they came.
        first_id: Of the first event.
        last_id: From which the client resumes.
        arrived: Set with each frame.
    """

    def __init__(self, hunt: Hunt, client: Client) -> None:
        self.frames: list[Frame] = []
        self.first_id = ""
        self.last_id = ""
        self.arrived = asyncio.Event()
        self._hunt = hunt
        self._client = client

    async def to_the_end(self, send: Send) -> None:
        """Follow a request's stream until it ends."""
        ended = await self._connect(send, fewest=PRIMING_OCTETS)
        while not ended:
            ended = await self._again()

    async def for_ever(self, send: Send) -> None:
        """Follow the standalone stream; a connection that ends was displaced by one that had been given up."""
        await self._connect(send, fewest=PRIMING_OCTETS)
        while True:
            await self._again()

    async def _again(self) -> bool:
        await asyncio.sleep(self._hunt.rng.random() * _MOST_AWAY)
        if self._hunt.rng.random() < 0.15:
            await self._hang_up()
            return False
        return await self._connect(lambda tag: self._client.resume(self.last_id, x_hunt=tag))

    async def _hang_up(self) -> None:
        """Resume, and be gone before there is an answer."""
        tag, balancer = self._hunt.tag(), self._hunt.cluster.balancer
        asking = asyncio.ensure_future(self._client.resume(self.last_id, x_hunt=tag))
        await balancer.wait_until(lambda balancer: any(p.head.get("x-hunt") == tag for p in balancer.passages[-50:]))
        asking.cancel()
        await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result().cut()
        self._hunt.disconnects += 1

    async def _connect(self, send: Send, fewest: int = 0) -> bool:
        """Read from one connection; whether it came to a proper end."""
        tag, rng = self._hunt.tag(), self._hunt.rng
        by_client = rng.randrange(1, _MOST_FRAMES) if rng.random() < 0.2 else None
        octets = rng.randrange(fewest, _MOST_OCTETS)
        if by_client is None:
            self._hunt.cluster.balancer.cut_after(octets=octets, matches=lambda head, body: head.get("x-hunt") == tag)
        response = await send(tag)
        assert response.status == 200, (response.head, await response.body())
        try:
            async for frame in response:
                self._take(frame)
                if len(response.frames) == by_client:
                    response.cut()
                    raise CutOff("by the client")
        except CutOff:
            self._hunt.disconnects += 1
            return False
        return True

    def _take(self, frame: Frame) -> None:
        if frame.id:
            self.first_id = self.first_id or frame.id
            self.last_id = frame.id
        if not frame.is_priming:
            self.frames.append(frame)
        self.arrived.set()

    async def begun(self) -> None:
        """Wait until there is an id to resume from."""
        await asyncio.wait_for(self.arrived.wait(), PATIENCE)

    async def until(self, number: int) -> None:
        """Wait until so many frames are there; what does not come in time is lost."""

        async def work() -> None:
            while len(self.frames) < number:
                self.arrived.clear()
                await self.arrived.wait()

        try:
            await asyncio.wait_for(work(), PATIENCE)
        except asyncio.TimeoutError:
            print(f"gave up: {len(self.frames)} of {number} frames after {self.last_id}")

    async def replay(self) -> None:
        """Receive it once more from its beginning: it has to be what was received in pieces."""
        self._hunt.tag()
        response = await self._client.resume(self.first_id)
        again: list[Frame] = []
        while len(again) < len(self.frames):
            try:
                again.append(await response.until_message())
            except (StopAsyncIteration, CutOff, asyncio.TimeoutError):
                break
        response.cut()
        self._hunt.tally.replayed_otherwise += again != self.frames
