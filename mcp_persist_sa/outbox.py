"""What is appended to a shared stream by someone who cannot wait."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from mcp_persist_sa.errors import OutcomeUnknown, PersistError, StoreClosed, StoreUnavailable
from mcp_persist_sa.events import Events
from mcp_persist_sa.models import NewEvent

logger = logging.getLogger(__name__)

_MOST = 10_000
_BATCH = 500


class _Entry(NamedTuple):
    event: NewEvent
    settled: asyncio.Future[bool] | None


class Outbox:
    """Appends in the order in which it was given; what comes while an append runs goes together."""

    def __init__(self, store: Events, session_id: str, stream_id: str, *, may_repeat: bool = False) -> None:
        """Make it.

        Args:
            store: The store.
            session_id: The session.
            stream_id: The stream.
            may_repeat: Whether an event is sent again where it may be stored already.
        """
        self._may_repeat = may_repeat
        self._store = store
        self._session_id = session_id
        self._stream_id = stream_id
        self._waiting: list[_Entry] = []
        self._sending: asyncio.Task[None] | None = None

    def put(self, text: str | None, settled: asyncio.Future[bool] | None = None) -> None:
        """Hand over an event.

        Args:
            text: The message.
            settled: Told, when that is known, whether the event is stored.
        """
        entry = _Entry(NewEvent(text), settled)
        if len(self._waiting) >= _MOST:
            self._lost([entry], "too many events wait to be written")
            return
        self._waiting.append(entry)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                await self._append(batch)
        finally:
            self._sending = None

    async def _append(self, batch: list[_Entry]) -> None:
        while True:
            try:
                await self._store.append_many(self._session_id, self._stream_id, [entry.event for entry in batch])
                _settle(batch, stored=True)
                return
            except OutcomeUnknown as error:
                if self._may_repeat:
                    continue
                # They may be there; sent again, they might be there twice.
                self._lost(batch, str(error))
                return
            except StoreUnavailable:
                continue
            except StoreClosed as error:
                self._lost(batch, str(error))
                return
            except PersistError as error:
                if len(batch) == 1:
                    self._lost(batch, str(error))
                    return
                for entry in batch:
                    await self._append([entry])
                return

    def _lost(self, batch: list[_Entry], why: str) -> None:
        logger.warning(
            "%(count)d notifications of session %(session_id)s are not stored: %(error)s",
            {"count": len(batch), "session_id": self._session_id, "error": why},
        )
        _settle(batch, stored=False)

    async def flush(self, patience: float) -> None:
        """Wait, for so many seconds, until everything that was handed over is stored or given up."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=patience)


def _settle(batch: list[_Entry], *, stored: bool) -> None:
    for entry in batch:
        if entry.settled is not None and not entry.settled.done():
            entry.settled.set_result(stored)
