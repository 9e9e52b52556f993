"""The way out of an SSE response, with a store that answers when the test says so."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

from starlette.types import Message

from mcp_persist_sa.errors import StoreUnavailable
from mcp_persist_sa.integrations.gate import Durability, Gate

WHOLE = b"id: e%d\r\nevent: message\r\ndata: %d\r\n\r\n"
BARE = b"event: message\r\ndata: %d\r\n\r\n"
AT_ONCE = 0.01
FOREVER = 3600


class Receipt:
    """Of an event that the store keeps, or gives up, on command."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def stored(self) -> bool:
        return self.outcome.done() and self.outcome.exception() is None

    async def durable(self) -> None:
        await asyncio.shield(self.outcome)


class Response:
    """A response with some events, whose frames arrive at once from the SDK; `sent` is what went on to the client."""

    def __init__(self, patience: float, events: int) -> None:
        self.sent: asyncio.Queue[bytes] = asyncio.Queue()
        self.receipts = [Receipt() for _ in range(events)]
        self._waiting: Any = {f"e{number}": receipt for number, receipt in enumerate(self.receipts)}
        self._gate = Gate(self._send, Durability(patience))

    async def _send(self, message: Message) -> None:
        self.sent.put_nowait(message["body"])

    async def frame(self, number: int) -> None:
        call: Any = SimpleNamespace(receipts=self._waiting, texts={}, last=None)
        await self._gate.body({"body": WHOLE % (number, number), "more_body": True}, call)


async def test_a_frame_leaves_when_its_event_is_durable_and_not_before() -> None:
    response = Response(FOREVER, events=3)
    for number in range(3):
        await response.frame(number)
    for number in (1, 0):
        assert response.sent.empty()
        response.receipts[number].outcome.set_result(None)
    # What may leave leaves together.
    assert await response.sent.get() == WHOLE % (0, 0) + WHOLE % (1, 1)
    assert response.sent.empty()
    response.receipts[2].outcome.set_result(None)
    assert await response.sent.get() == WHOLE % (2, 2)


async def test_frames_leave_without_an_id_while_the_store_is_away_and_with_one_when_it_is_back() -> None:
    response = Response(AT_ONCE, events=3)
    await response.frame(0)
    assert await response.sent.get() == BARE % 0
    # One wait was enough to know: the next frame does not wait as well.
    await response.frame(1)
    assert await response.sent.get() == BARE % 1
    for receipt in response.receipts:
        receipt.outcome.set_result(None)
    await response.frame(2)
    assert await response.sent.get() == WHOLE % (2, 2)


async def test_a_store_is_not_blamed_for_work_that_held_up_the_event_loop() -> None:
    response, loop = Response(patience=0.4, events=1), asyncio.get_running_loop()
    await response.frame(0)

    def hold_up() -> None:
        time.sleep(0.5)
        # An answer needs some turns of the loop to be heard.
        loop.call_soon(lambda: loop.call_soon(response.receipts[0].outcome.set_result, None))

    await asyncio.sleep(0)
    loop.call_soon(hold_up)
    assert await response.sent.get() == WHOLE % (0, 0)


async def test_a_frame_whose_event_was_given_up_has_no_id() -> None:
    response = Response(FOREVER, events=1)
    await response.frame(0)
    response.receipts[0].outcome.set_exception(StoreUnavailable("gone"))
    assert await response.sent.get() == BARE % 0


async def test_a_frame_whose_event_is_unknown_has_no_id() -> None:
    response = Response(FOREVER, events=0)
    await response.frame(7)
    assert await response.sent.get() == BARE % 7
