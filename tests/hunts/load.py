"""A load of callers on one store in this process, whose calls must succeed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mcp_persist_sa import NewEvent, OutcomeUnknown, Store
from tests.databases import Database
from tests.hunts.support import PATIENCE, check_once, check_order, check_streams, stored_rows

SESSION = "session"
CALLERS = 6


@dataclass
class Load:
    """Callers that write until they are told to stop, and what they were told.

    Attributes:
        store: The store.
        asked: All messages that were given to the store.
        acknowledged: Messages by event id.
        counted: How often the counter in the state was increased.
        uncertain: How often nobody can tell whether it was.
    """

    store: Store
    asked: set[str] = field(default_factory=set[str])
    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    counted: int = 0
    uncertain: int = 0
    _stopped: bool = False
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Load, None]:
        """Callers at work; a call that fails ends the block with its error."""
        lanes = [self._shared(f"shared-{n}") for n in range(CALLERS)]
        lanes += [self._batches(f"batches-{n}") for n in range(CALLERS)]
        lanes += [self._claimed(f"own-{n}") for n in range(CALLERS)]
        lanes += [self._counter() for _ in range(2)]
        tasks = [asyncio.ensure_future(lane) for lane in lanes]
        try:
            yield self
            self._stopped = True
            await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def progress(self, count: int = 50) -> None:
        """Wait until so many more events were acknowledged."""

        async def work() -> None:
            goal = len(self.acknowledged) + count
            while len(self.acknowledged) < goal:
                self._more.clear()
                await self._more.wait()

        await asyncio.wait_for(work(), PATIENCE)

    def _ask(self, lane: str, number: int) -> str:
        message = f"{lane}/{number}"
        self.asked.add(message)
        return message

    def _note(self, event_id: str, message: str) -> None:
        assert event_id not in self.acknowledged
        self.acknowledged[event_id] = message
        self._more.set()

    async def _shared(self, lane: str) -> None:
        number = 0
        while not self._stopped:
            message = self._ask(lane, number)
            self._note(await self.store.append(SESSION, "one", message), message)
            number += 1

    async def _batches(self, lane: str) -> None:
        number = 0
        while not self._stopped:
            messages = [self._ask(lane, number + i) for i in range(1 + number % 4)]
            number += len(messages)
            events = [NewEvent(message, message is messages[-1] and number % 3 == 0) for message in messages]
            for pair in zip(await self.store.append_many(SESSION, "turns", events), messages, strict=True):
                self._note(*pair)

    async def _claimed(self, lane: str) -> None:
        number = 0
        while not self._stopped:
            writer = self.store.claim(SESSION, lane)
            messages = [self._ask(lane, number + i) for i in range(20)]
            number += len(messages)
            receipts = [writer.append(message, final=message is messages[-1]) for message in messages]
            for receipt, message in zip(receipts, messages, strict=True):
                self._note(await receipt.durable(), message)

    async def _counter(self) -> None:
        while not self._stopped:
            try:
                await self.store.state(SESSION).update("count", lambda value: value + 1, 0)
                self.counted += 1
            except OutcomeUnknown as error:
                # Only where a reply was lost and another lane counted on before the store could send it again.
                if "others have written since" not in str(error):
                    raise
                self.uncertain += 1

    async def check(self, database: Database) -> None:
        """All that was asked for is stored once, since no call has failed."""
        rows = await stored_rows(database)
        assert sorted(self.acknowledged.values()) == sorted(self.asked) == sorted(row.message for row in rows)
        check_streams(rows)
        check_once(rows, self.acknowledged, self.asked)
        check_order(rows)
        assert self.counted <= await self.store.state(SESSION).get("count", 0) <= self.counted + self.uncertain
