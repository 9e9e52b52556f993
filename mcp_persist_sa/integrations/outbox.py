"""What is appended to a shared stream by someone who cannot wait."""

from __future__ import annotations

import asyncio
import logging

from mcp_persist_sa.errors import OutcomeUnknown, PersistError, StoreClosed, StoreUnavailable
from mcp_persist_sa.models import NewEvent
from mcp_persist_sa.store import Store

logger = logging.getLogger(__name__)

_MOST = 10_000
_BATCH = 500


class Outbox:
    """Appends in the order in which it was given; what comes while an append runs goes together."""

    def __init__(self, store: Store, session_id: str, stream_id: str) -> None:
        self._store = store
        self._session_id = session_id
        self._stream_id = stream_id
        self._waiting: list[NewEvent] = []
        self._sending: asyncio.Task[None] | None = None

    def put(self, text: str | None) -> None:
        """Hand over an event."""
        if len(self._waiting) >= _MOST:
            self._lost(1, "too many events wait to be written")
            return
        self._waiting.append(NewEvent(text))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                await self._append(batch)
        finally:
            self._sending = None

    async def _append(self, batch: list[NewEvent]) -> None:
        while True:
            try:
                await self._store.append_many(self._session_id, self._stream_id, batch)
                return
            except OutcomeUnknown as error:
                # They may be there; sent again, they might be there twice.
                self._lost(len(batch), str(error))
                return
            except StoreUnavailable:
                continue
            except StoreClosed as error:
                self._lost(len(batch), str(error))
                return
            except PersistError as error:
                if len(batch) == 1:
                    self._lost(1, str(error))
                    return
                for event in batch:
                    await self._append([event])
                return

    def _lost(self, count: int, why: str) -> None:
        logger.warning("%d notifications of session %s are not stored: %s", count, self._session_id, why)

    async def flush(self, patience: float) -> None:
        """Wait, for so many seconds, until everything that was handed over is stored or given up."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=patience)
