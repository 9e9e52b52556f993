"""Writing parcels in batches, so that many small sessions share a transaction; one that is refused is refused alone."""

from __future__ import annotations

from mcp_persist_sa.errors import PersistError, RecordConflict, StoreClosed, StoreUnavailable
from mcp_persist_sa.models import Session
from mcp_persist_sa.operations.progress import Moved, OnProgress
from mcp_persist_sa.operations.walking import Size
from mcp_persist_sa.records import EventRecord, Parcel, Record, RecordBackend, StateRecord

_REMEMBERED = 1000
"""Of so many sessions the id is known at most; a copy asks for the last few alone."""


def stops_all(error: Exception) -> bool:
    """Whether an error is the database's, not that of one session."""
    return isinstance(error, StoreUnavailable | StoreClosed)


class Shipping:
    """Parcels on their way to a store."""

    def __init__(self, backend: RecordBackend, size: Size, moved: Moved, on_progress: OnProgress | None) -> None:
        self._backend = backend
        self._size = size
        self._moved = moved
        self._on_progress = on_progress
        self._waiting: list[tuple[str, list[Record]]] = []
        self._records = self._bytes = 0
        self._names: dict[str, str] = {}

    def name(self, session_key: str) -> str:
        """What is known of a session: its id, or else its key."""
        return self._names.get(session_key, session_key)

    def forget_names(self) -> None:
        """Drop the ids of sessions that are done with."""
        self._names.clear()

    async def add(self, parcel: Parcel, session_id: str | None = None) -> None:
        """Take a parcel, which may become a part of a greater one, and write what there is once it is enough.

        Args:
            parcel: Of one session.
            session_id: Its id, where that is known; a record of the session says it too.
        """
        if session_id is not None:
            self._names[parcel.session_key] = session_id
        for record in parcel.records:
            if isinstance(record, Session):
                self._names[parcel.session_key] = record.session_id
            self._bytes += _bytes(record)
        if not self._waiting or self._waiting[-1][0] != parcel.session_key:
            self._waiting.append((parcel.session_key, []))
        self._waiting[-1][1].extend(parcel.records)
        self._records += len(parcel.records)
        if self._records >= self._size.records or self._bytes >= self._size.bytes:
            await self.flush()

    async def flush(self) -> None:
        """Write what is waiting.

        Raises:
            StoreUnavailable: It may be done again.
        """
        parcels = [Parcel(key, tuple(records)) for key, records in self._waiting]
        self._waiting = []
        self._records = self._bytes = 0
        if not parcels:
            return
        outcomes = await self._write(parcels)
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            if outcome is None:
                self._moved.count(parcel.records)
            else:
                self._moved.fail(self.name(parcel.session_key), outcome)
        if len(self._names) > _REMEMBERED:
            # All are done with, but for the one that may go on.
            last = parcels[-1].session_key
            self._names = {last: self.name(last)}
        self.report()

    async def _write(self, parcels: list[Parcel]) -> list[RecordConflict | PersistError | None]:
        try:
            return [*await self._backend.write_parcels(parcels)]
        except PersistError as error:
            if stops_all(error):
                raise
            if len(parcels) == 1:
                return [error]
        # One of them cannot be held by the database, and must not take the others with it.
        return [outcome for parcel in parcels for outcome in await self._write([parcel])]

    def report(self) -> None:
        """Say how far it is."""
        if self._on_progress is not None:
            self._on_progress(self._moved)


def _bytes(record: Record) -> int:
    """About how large a record is."""
    if isinstance(record, EventRecord):
        return len(record.message or "")
    return len(record.value or "") if isinstance(record, StateRecord) else 0
